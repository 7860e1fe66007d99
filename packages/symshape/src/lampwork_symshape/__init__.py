"""Symbolic integers, value ranges and shape facts for tensor compilers."""
