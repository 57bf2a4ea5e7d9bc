//! Generation: kv cache, sampling, batched decoding, scoring.
