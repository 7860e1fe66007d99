"""Special methods of a class as one fact: which of the names that the interpreter looks up there are taken, by what.

The tracer records it for each class of the program that it meets, so that no look-up of a special method has to leave a
fact of its own, found or not; csrc/guard_specials.c checks it. Invariant: nothing of the program runs. A function or
another object of the program is told by its type alone: what was traced of it has a guard where it was read.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, ClassMethodDescriptorType, MethodDescriptorType, WrapperDescriptorType
from typing import Any

from .facts import ByIdentity
from .namespaces import mro_of, namespace_of

_OPERATORS = "add sub mul matmul truediv floordiv mod divmod pow lshift rshift and xor or"
_OTHERS = """
    lt le eq ne gt ge neg pos invert abs bool int float complex index round trunc floor ceil hash str repr format bytes
    len length_hint contains iter next reversed getitem setitem delitem missing call enter exit get set delete set_name
    getattribute getattr setattr delattr new init del post_init init_subclass class_getitem instancecheck subclasscheck
    subclasshook prepare mro_entries await aiter anext aenter aexit copy deepcopy reduce reduce_ex getstate setstate
    getnewargs getnewargs_ex dir sizeof fspath match_args array torch_function torch_dispatch
"""
SPECIAL_NAMES: tuple[str, ...] = tuple(
    sys.intern(f"__{name}__")
    for name in (*(prefix + name for prefix in ("", "r", "i") for name in _OPERATORS.split()), *_OTHERS.split())
)
SPECIAL_PLACES: dict[str, int] = {name: place for place, name in enumerate(SPECIAL_NAMES)}
_OF_C_CODE = (WrapperDescriptorType, MethodDescriptorType, ClassMethodDescriptorType, BuiltinFunctionType)


def special_methods(cls: type) -> tuple[ByIdentity | None, ...]:
    """For each name what stands under it in the MRO: None, a method in C itself, or the type of anything else.

    The class is a plain one: no other key in a namespace may be equal to a name."""
    taken: dict[str, Any] = {}
    for owner in reversed(mro_of(cls)):
        for name, found in namespace_of(owner).items():
            if type(name) is str and name in SPECIAL_PLACES:  # no other key is compared
                taken[name] = found
    return tuple(_told(taken[name]) if name in taken else None for name in SPECIAL_NAMES)


def _told(found: Any) -> ByIdentity:
    kind = type(found)
    return ByIdentity(found if any(kind is each for each in _OF_C_CODE) else kind)  # a metaclass may compare
