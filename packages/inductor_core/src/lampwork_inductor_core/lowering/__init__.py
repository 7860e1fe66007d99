"""Lowering: a functional ATen graph becomes a LoweredGraph; one file per family of operators."""
