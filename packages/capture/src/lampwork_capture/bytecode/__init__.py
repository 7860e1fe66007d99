"""Bytecode: reading code objects as editable instructions, emitting new ones, and assembling code again.

The interpreter reads `disassemble`d code; what it captured is written through an `Emitter` and `assemble`d into the
replacement that the frame hook runs. Invariant: only `version` knows how interpreters differ.
"""
