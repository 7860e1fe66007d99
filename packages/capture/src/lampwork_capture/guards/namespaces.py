"""The MRO of a class and the namespaces in it, past whatever its metaclass shows under these names.

Read by guards and by the values that look names up. Invariant: nothing of the program runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

mro_of: Callable[[type], tuple[type, ...]] = vars(type)["__mro__"].__get__
namespace_of: Callable[[type], Mapping[str, Any]] = vars(type)["__dict__"].__get__
