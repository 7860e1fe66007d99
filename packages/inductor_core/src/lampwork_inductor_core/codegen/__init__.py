"""Schedule to kernels and host program: all that is the same for every device.

`kernel` builds `ScheduledKernel`s, `wrapper` the host program; the device backend turns the former into text.
Invariant: nothing here names a device or a language.
"""
