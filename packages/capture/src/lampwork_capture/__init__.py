"""Python bytecode to FX graphs, guards and new bytecode."""
