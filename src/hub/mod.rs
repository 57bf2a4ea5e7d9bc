//! Finds the files of a model or data set: a local folder, a Hub id, a `.gguf` file.
