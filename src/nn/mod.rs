//! Building blocks of a decoder: linear, norm, rope, attention, mlp, embedding.
