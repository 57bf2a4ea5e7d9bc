//! One file per job; the only place that wires the rooms together.
