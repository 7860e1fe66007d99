"""Triton code generation for Lampwork: the device backend for NVIDIA GPUs.

`backend` is the way in, `kernel` the code generator. Invariant: importing this package loads neither the compiler nor
a driver, since generated kernels import `device_functions` from it.
"""

__version__ = "0.1.0"
