"""Opcodes by family: what each instruction does to a symbolic frame.

Importing this package fills the table; `table.handler_for` finds the handler of an instruction by its name. Invariant:
every opcode of a supported interpreter is handled or declined by name (a test holds this).
"""
