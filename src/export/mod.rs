//! What others load: PEFT folders, merged Hugging Face folders, model cards.
