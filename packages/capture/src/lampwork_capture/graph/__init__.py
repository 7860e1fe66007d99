"""The FX graph that tracing builds: construction with fake tensors, and its frozen result."""
