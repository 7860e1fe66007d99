"""C++ code generation for Lampwork."""
