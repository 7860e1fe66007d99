"""The symbolic interpreter: runs a frame's bytecode on values instead of objects.

`frame` holds the state, `opcodes` what each instruction does, `run` the loop; `side_effects`, `reconstruct` and
`resume` bring the result back into the real world. Invariant: no tensor is computed and no user object is changed here.
"""
