"""Triton code generation for Lampwork: the device backend for NVIDIA GPUs.

`backend` is the way in, `kernel` the code generator. Invariant: importing this package loads neither the compiler nor
torch nor a driver, since generated kernels import `device_functions` from it in processes that have none of these.
"""

__version__ = "0.1.0"
