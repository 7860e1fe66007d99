"""What runs when a compiled graph is called: the graph itself, caches of kernels and of static values.

Generated code and saved artifacts need only this folder. Invariant: nothing here imports the compiler.
"""
