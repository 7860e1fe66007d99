"""Types of the C extension: frame hook, code cache, guard trees. See csrc/."""

from collections.abc import Callable, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any, final

class SKIP: ...
class SKIP_RECURSIVE: ...
class RETRY: ...

@final
class FrameView:
    code: CodeType
    function: FunctionType | None  # None where frames do not know it: CPython 3.10
    local_values: Mapping[str, Any]
    cells: Mapping[str, CellType]
    global_values: dict[str, Any]
    builtin_values: dict[str, Any]

@final
class TailCall:
    def __init__(self, function: FunctionType, /, *args: Any) -> None: ...

@final
class GuardTree:
    def __init__(
        self,
        nodes: tuple[tuple[int, int, Any, int, int], ...],
        checks: tuple[tuple[int, int, Any, bool], ...],
        relations: tuple[tuple[bool, tuple[int, ...]], ...],
        state: tuple[tuple[int, int, int, Any, Any], ...],
        inputs: tuple[int, ...],
        extras: tuple[int, ...],
        stamps: int,
    ) -> None: ...
    is_dead: bool
    counts: dict[str, int]
    def read_handed(
        self,
        slots: tuple[Any, ...],
        closure: tuple[CellType, ...] | None,
        global_values: dict[str, Any],
        builtin_values: dict[str, Any],
    ) -> tuple[Any, ...] | None: ...
    def check(
        self,
        slots: tuple[Any, ...],
        closure: tuple[CellType, ...] | None,
        global_values: dict[str, Any],
        builtin_values: dict[str, Any],
        /,
    ) -> bool: ...

@final
class CacheEntry:
    def __init__(self, guards: GuardTree | None, code: CodeType | None, payload: Any = None) -> None: ...
    guards: GuardTree | None
    code: CodeType | None
    payload: Any
    hits: int
    owner: Any
    is_skip: bool

Answer = CacheEntry | type[SKIP] | type[SKIP_RECURSIVE] | type[RETRY] | None
Callback = Callable[[FrameView, tuple[CacheEntry, ...]], Answer]

class OptimizedCallable:
    def __init__(self, function: Callable[..., Any], callback: Callback | None = None, owner: Any = None) -> None: ...
    function: Callable[..., Any]
    callback: Callback | None
    owner: Any
    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __get__(self, instance: Any, owner: type | None = None, /) -> Any: ...

class ModuleCall:
    def _set_calls(
        self,
        whole: Callable[..., Any],
        forward: Callable[..., Any],
        plain: GuardTree | None,
        slots: tuple[Any, ...],
        global_values: dict[str, Any],
        /,
    ) -> None: ...
    _plain: GuardTree | None
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

class OrNone:
    def __init__(self, function: Callable[..., Any]) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

def set_callback(callback: Callback | None, owner: Any = None, /) -> Callback | None: ...
def set_peer(setter: Callable[[Any], Any] | None, /) -> None: ...
def get_callback() -> Callback | None: ...
def get_owner() -> Any: ...
def is_installed() -> bool: ...
def call_unfinished(function: FunctionType, arguments: tuple[Any, ...], /) -> Any: ...
def call_disabled(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any: ...
def entries(code: CodeType, owner: Any = ..., /) -> tuple[CacheEntry, ...]: ...
def insert(code: CodeType, entry: CacheEntry, owner: Any, /) -> None: ...
def skip(code: CodeType, recursive: bool = False) -> None: ...
def reset(code: CodeType, /) -> None: ...
def cached_codes() -> list[CodeType]: ...
def is_made_by_object(cls: type, /) -> bool: ...
def is_plain_class(cls: type, /) -> bool: ...
def instance_dict(object: Any, /) -> dict[str, Any] | None: ...
def set_module_getattr(function: Any, /) -> None: ...
def set_tensor_getters(base: type, stride: Any, dispatch_keys: Any, /) -> None: ...
def set_tensor_layout(ready: bool, rank: int, autograd: int, requires_grad: int, grad_fn: int, /) -> None: ...
def set_tensor_access(tensor_offset: int, keys_offset: int, addresses: tuple[int, ...], /) -> None: ...
def words(address: int, n: int, /) -> tuple[int, ...]: ...
def tensor_facts(tensor: Any, /) -> tuple[int, tuple[int, ...], int, int, int] | None: ...

ACCESS_ARGUMENT: int
ACCESS_CELL: int
ACCESS_CELL_OBJECT: int
ACCESS_GLOBAL: int
ACCESS_BUILTIN: int
ACCESS_MODULE: int
ACCESS_ATTRIBUTE: int
ACCESS_INDEX: int
ACCESS_KEY: int
ACCESS_NTH_KEY: int
ACCESS_NTH_VALUE: int
ACCESS_DEFAULT: int
ACCESS_KEYWORD_DEFAULT: int
ACCESS_CLOSURE: int
ACCESS_FUNCTION_GLOBAL: int
ACCESS_TYPE: int
ACCESS_METHOD_FUNCTION: int
ACCESS_CLASS_ATTRIBUTE: int
ACCESS_SIZE: int
ACCESS_STRIDE: int
CHECK_TYPE: int
CHECK_IDENTITY: int
CHECK_CONSTANT: int
CHECK_TENSOR: int
CHECK_LENGTH: int
CHECK_DICT_KEYS: int
CHECK_DICT_CONTAINS: int
CHECK_ATTRIBUTE: int
CHECK_INSTANCE_DICT_LACKS: int
CHECK_INTEGER: int
CHECK_SCALAR: int
CHECK_SPECIALS: int
CHECK_TYPE_AMONG: int
