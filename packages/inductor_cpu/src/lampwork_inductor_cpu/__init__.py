"""C++ code generation for Lampwork.

The package's public names. The core finds `CpuBackend` through the entry-point group `lampwork.device_backends`.
Invariant: importing this module starts no compiler.
"""

from .backend import CpuBackend
from .build import CompileError
from .config import CpuConfig
from .isa import Isa, detect
from .ops import UnsupportedDtype

__all__ = ["CompileError", "CpuBackend", "CpuConfig", "Isa", "UnsupportedDtype", "detect"]
__version__ = "0.1.0"
