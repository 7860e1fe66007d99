"""Makes the differential helper of the interpreter's tests importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "interpreter"))
sys.path.insert(0, str(Path(__file__).parent))
