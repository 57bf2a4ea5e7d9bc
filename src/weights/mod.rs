//! The one table of tensor names, and the readers of safetensors and GGUF files.
