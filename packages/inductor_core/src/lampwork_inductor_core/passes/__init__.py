"""Passes: rewrites over the functional ATen graph.

One rewrite a file; `pipeline.PASSES` is their order. Invariant: a pass keeps what the graph computes, the strides of
its results, and a right fake value on every node.
"""
