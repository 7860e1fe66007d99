"""Passes: rewrites over the functional ATen graph, one per file, in one visible order."""
