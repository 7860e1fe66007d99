"""The loop IR: scalar operations, loop bodies, loops, layouts, views and buffers, as immutable data."""
