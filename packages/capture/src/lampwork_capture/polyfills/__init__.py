"""Functions of torch and the standard library in plain Python: traced in place of originals that cannot be traced."""
