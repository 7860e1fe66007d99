"""LoweredGraph to Schedule: which buffers share a kernel, in which order kernels run, and where their results lie.

`dependencies` says what reads what, `loop_order` normalises loops, `fusion` is legality, `score` is profit, `memory`
plans allocations, `scheduler` drives them. Invariant: a schedule computes exactly the outputs of its graph.
"""
