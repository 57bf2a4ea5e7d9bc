//! What the user typed, checked (every problem at once), and made explicit.
