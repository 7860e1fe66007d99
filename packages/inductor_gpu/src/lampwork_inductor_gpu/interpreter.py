"""Whether kernels run under Triton's interpreter, on CPU tensors.

Beside the path: asked by what differs there. Invariant: imports nothing, as Triton's own choice is made while it is
imported; read once, since that choice cannot be taken back either.
"""

from __future__ import annotations

import os

VARIABLE = "TRITON_INTERPRET"
INTERPRETED = os.environ.get(VARIABLE) == "1"
