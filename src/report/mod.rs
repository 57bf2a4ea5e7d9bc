//! Sinks of training events: progress, metrics.jsonl, TensorBoard, summary.
