"""Functions of torch in plain Python: traced in place of the originals, whose own code cannot be traced."""
