"""A torch.compile stack you can see through: capture, lowering and code generation as one call.

Importing this package patches nothing and puts no frame hook on; that happens inside a compiled call only.
"""

from .compile import compile
from .explain import explain
from .options import OptionError
from .pipeline import EagerFallbackWarning

__all__ = ["EagerFallbackWarning", "OptionError", "compile", "explain"]
__version__ = "0.1.0"
