"""All kernels of these tests run under Triton's interpreter, on CPU tensors; set before triton is imported.

Files named `*_on_card` need a card and `TRITON_INTERPRET=0`, in a run of their own; without they are skipped.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("LAMPWORK_STRICT", "1")
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "0")
sys.path.insert(0, str(Path(__file__).parent))

from triton.runtime.interpreter import interpreter_builder

# Bounds assertions run here as they do on a card, where the launcher asks for them.
object.__setattr__(interpreter_builder.options, "debug", True)
object.__setattr__(interpreter_builder.options, "sanitize_overflow", False)
