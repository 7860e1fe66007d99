"""Lowering: a functional ATen graph becomes a LoweredGraph.

One file per family of operators, each with a table by overload; `graph.lower` walks the graph once. Invariant: every
operator either has a lowering or is called as it is, never an error.
"""
