"""Sources: where an object that a frame can reach comes from.

Every traced value that existed before the frame ran has a `Source`, a path from the frame's own locals, cells or
globals. Guards speak about sources, emitted bytecode loads them, and `explain` prints them. Objects enter artifacts
only through a source (design, decision 4). Invariant: a source is immutable, hashable data; equal paths are equal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar, cast

import torch

_S = TypeVar("_S", bound=type)


class _HashOnce:
    """Holds the hash of a source: paths are long, and every fact about one asks for it."""

    __slots__ = ("_hash",)


def _hash_once(cls: _S) -> _S:
    """Class decorator: compute the structural hash of an instance at its first use."""
    structural = cast("Callable[[Any], int]", cls.__hash__)

    def __hash__(self: Any) -> int:
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", structural(self))
            return self._hash

    cls.__hash__ = __hash__  # type: ignore[method-assign, assignment]
    return cls


@dataclass(frozen=True, slots=True)
class FrameScope:
    """The objects that root sources start from, for one call of one frame."""

    local_values: Mapping[str, Any]  # arguments by name, as bound by the call
    cells: Mapping[str, CellType]  # closure cells by free-variable name
    global_values: Mapping[str, Any]
    builtin_values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Source(_HashOnce):
    """Base of all sources. `str(source)` is the Python expression a person would write for it."""

    @property
    def parent(self) -> Source | None:
        """The source this one is read from; None for a root."""
        return None

    @property
    def root(self) -> Source:
        node: Source = self
        while (up := node.parent) is not None:
            node = up
        return node

    def resolve(self, scope: FrameScope) -> Any:
        """The object this source denotes in a concrete call. Raises whatever the access raises."""
        raise NotImplementedError(type(self).__name__)


@_hash_once
@dataclass(frozen=True, slots=True)
class LocalSource(Source):
    """An argument of the frame (`*args` is its tuple, `**kwargs` its dict)."""

    name: str

    def resolve(self, scope: FrameScope) -> Any:
        return scope.local_values[self.name]

    def __str__(self) -> str:
        return self.name


@_hash_once
@dataclass(frozen=True, slots=True)
class CellSource(Source):
    """The contents of a closure cell (free variable) of the frame's function."""

    name: str

    def resolve(self, scope: FrameScope) -> Any:
        return scope.cells[self.name].cell_contents

    def __str__(self) -> str:
        return self.name


@_hash_once
@dataclass(frozen=True, slots=True)
class CellObjectSource(Source):
    """The closure cell itself."""

    name: str

    def resolve(self, scope: FrameScope) -> Any:
        return scope.cells[self.name]

    def __str__(self) -> str:
        return f"<cell {self.name}>"


@_hash_once
@dataclass(frozen=True, slots=True)
class GlobalSource(Source):
    """A global of the frame's own module."""

    name: str

    def resolve(self, scope: FrameScope) -> Any:
        return scope.global_values[self.name]

    def __str__(self) -> str:
        return self.name


@_hash_once
@dataclass(frozen=True, slots=True)
class GlobalsSource(Source):
    """The dict of the frame's globals itself."""

    def resolve(self, scope: FrameScope) -> Any:
        return scope.global_values

    def __str__(self) -> str:
        return "globals()"


@_hash_once
@dataclass(frozen=True, slots=True)
class BuiltinSource(Source):
    """A name found in the frame's builtins."""

    name: str

    def resolve(self, scope: FrameScope) -> Any:
        return scope.builtin_values[self.name]

    def __str__(self) -> str:
        return self.name


@_hash_once
@dataclass(frozen=True, slots=True)
class ModuleSource(Source):
    """A Python module by its import name (`sys.modules[name]`): how globals of inlined functions are reached."""

    name: str

    def resolve(self, scope: FrameScope) -> Any:
        return sys.modules[self.name]

    def __str__(self) -> str:
        return self.name


@_hash_once
@dataclass(frozen=True, slots=True)
class _Derived(Source):
    base: Source

    @property
    def parent(self) -> Source | None:
        return self.base


@_hash_once
@dataclass(frozen=True, slots=True)
class AttributeSource(_Derived):
    """`base.name`, by normal attribute access."""

    name: str

    def resolve(self, scope: FrameScope) -> Any:
        return getattr(self.base.resolve(scope), self.name)

    def __str__(self) -> str:
        return f"{self.base}.{self.name}"


@_hash_once
@dataclass(frozen=True, slots=True)
class ItemSource(_Derived):
    """`base[key]` of an exact list, tuple or dict (dict.__getitem__ semantics); the key is a constant."""

    key: int | str | bytes | bool | float | tuple[Any, ...] | type | None

    def resolve(self, scope: FrameScope) -> Any:
        container = self.base.resolve(scope)
        if isinstance(container, dict):
            return dict.__getitem__(container, self.key)
        return container[self.key]

    def __str__(self) -> str:
        return f"{self.base}[{self.key!r}]"


@_hash_once
@dataclass(frozen=True, slots=True)
class DictKeySource(_Derived):
    """The nth key of a dict in insertion order, for keys that are no constants."""

    index: int

    def resolve(self, scope: FrameScope) -> Any:
        return list(dict.keys(self.base.resolve(scope)))[self.index]

    def __str__(self) -> str:
        return f"list({self.base})[{self.index}]"


@_hash_once
@dataclass(frozen=True, slots=True)
class DictValueSource(_Derived):
    """The nth value of a dict in insertion order, for keys that are no constants."""

    index: int

    def resolve(self, scope: FrameScope) -> Any:
        return list(dict.values(self.base.resolve(scope)))[self.index]

    def __str__(self) -> str:
        return f"list({self.base}.values())[{self.index}]"


@_hash_once
@dataclass(frozen=True, slots=True)
class DefaultSource(_Derived):
    """The nth positional default, or a keyword-only default by name, of a function."""

    key: int | str

    def resolve(self, scope: FrameScope) -> Any:
        function: FunctionType = self.base.resolve(scope)
        if isinstance(self.key, int):
            return (function.__defaults__ or ())[self.key]
        return (function.__kwdefaults__ or {})[self.key]

    def __str__(self) -> str:
        field = "__defaults__" if isinstance(self.key, int) else "__kwdefaults__"
        return f"{self.base}.{field}[{self.key!r}]"


@_hash_once
@dataclass(frozen=True, slots=True)
class ClosureSource(_Derived):
    """The contents of the nth closure cell of a function."""

    index: int

    def resolve(self, scope: FrameScope) -> Any:
        function: FunctionType = self.base.resolve(scope)
        return (function.__closure__ or ())[self.index].cell_contents

    def __str__(self) -> str:
        return f"{self.base}.__closure__[{self.index}].cell_contents"


@_hash_once
@dataclass(frozen=True, slots=True)
class FunctionGlobalSource(_Derived):
    """A global seen by an inlined function: `base.__globals__[name]`."""

    name: str

    def resolve(self, scope: FrameScope) -> Any:
        return self.base.resolve(scope).__globals__[self.name]

    def __str__(self) -> str:
        return f"{self.base}.__globals__[{self.name!r}]"


@_hash_once
@dataclass(frozen=True, slots=True)
class TypeSource(_Derived):
    """`type(base)`."""

    def resolve(self, scope: FrameScope) -> Any:
        return type(self.base.resolve(scope))

    def __str__(self) -> str:
        return f"type({self.base})"


@_hash_once
@dataclass(frozen=True, slots=True)
class MethodFunctionSource(_Derived):
    """The function behind a bound method: `base.__func__`."""

    def resolve(self, scope: FrameScope) -> Any:
        method: MethodType = self.base.resolve(scope)
        return method.__func__

    def __str__(self) -> str:
        return f"{self.base}.__func__"


@_hash_once
@dataclass(frozen=True, slots=True)
class ClassAttributeSource(_Derived):
    """`name` in the namespace of the class `base` itself, without descriptors: `base.__dict__[name]`."""

    name: str

    def resolve(self, scope: FrameScope) -> Any:
        return self.base.resolve(scope).__dict__[self.name]

    def __str__(self) -> str:
        return f"{self.base}.__dict__[{self.name!r}]"


@_hash_once
@dataclass(frozen=True, slots=True)
class TensorSizeSource(_Derived):
    """The size of a dimension of the tensor `base`."""

    dim: int

    def resolve(self, scope: FrameScope) -> Any:
        return self.base.resolve(scope).shape[self.dim]

    def __str__(self) -> str:
        return f"{self.base}.size({self.dim})"


@_hash_once
@dataclass(frozen=True, slots=True)
class TensorStrideSource(_Derived):
    """The stride of a dimension of the tensor `base`, in elements."""

    dim: int

    def resolve(self, scope: FrameScope) -> Any:
        return torch.Tensor.stride(self.base.resolve(scope), self.dim)

    def __str__(self) -> str:
        return f"{self.base}.stride({self.dim})"


@_hash_once
@dataclass(frozen=True, slots=True)
class ArrayTensorSource(_Derived):
    """A new tensor over the memory of the array `base`. No fact speaks about it: the array is guarded."""

    def resolve(self, scope: FrameScope) -> Any:
        return torch.from_numpy(self.base.resolve(scope))

    def __str__(self) -> str:
        return f"torch.from_numpy({self.base})"


def is_module_state(source: Source) -> bool:
    """Whether a source reads a parameter or buffer table of a module."""
    node: Source | None = source
    while node is not None:
        if isinstance(node, AttributeSource) and node.name in ("_parameters", "_buffers"):
            return True
        node = node.parent
    return False
