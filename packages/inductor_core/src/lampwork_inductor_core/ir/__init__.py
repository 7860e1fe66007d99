"""The loop IR: scalar operations, loop bodies, loops, layouts, views and buffers.

What the lowering makes and the schedule takes. Invariant: all of it is immutable data; a lowered graph can be printed
(`printer`), checked (`verify`) and run (`interpret`) without any of the later stages.
"""
