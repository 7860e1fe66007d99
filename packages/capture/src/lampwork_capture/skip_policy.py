"""Skip policy: which frames are converted, and which functions are traced through when they are called.

The user's own code and plain Python libraries are traced; torch's machinery, import, logging and the like run as they
are. Marks set by `disable` and its kin are read here. Invariant: the answer depends on the code object and on marks of
the function only.
"""

from __future__ import annotations

import enum
import gc
import importlib.util
import os
import sysconfig
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any

import torch

from . import _native
from .bytecode.version import qualified_name
from .graph_break import BreakId, GraphBreak

_GENERATED = ("<eval_with_key>", "<__array_function__", "<attrs generated")
_COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")  # loops over an iterator begun elsewhere
_OS_FILES = ("<frozen os>", os.__file__)  # os.environ is plain Python
_FROZEN_INLINED = ("<frozen _collections_abc>",)
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep
_INSTALLED = tuple(sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_TORCH = os.path.dirname(torch.__file__) + os.sep
_TORCH_CAPTURE = _TORCH + "_dynamo" + os.sep
_HERE = os.path.dirname(__file__) + os.sep
_POLYFILLS = os.path.join(_HERE, "polyfills") + os.sep

_ENVIRON_CODES = frozenset(
    function.__code__
    for function in (*vars(type(os.environ)).values(), *vars(os.environ).values())
    if isinstance(function, FunctionType)
)

# Parts of torch whose Python code is traced when a traced function calls it.
_TORCH_INLINED = (
    "nn/modules/",
    "nn/functional.py",
    "nn/init.py",
    "overrides.py",
    "_functorch/functional_call.py",
    "nn/utils/parametriz",
    "nn/utils/rnn.py",
    "nn/utils/clip_grad.py",
    "utils/_foreach_utils.py",
    "nn/attention/",
    "autograd/grad_mode.py",
    "amp/autocast_mode.py",
    "utils/_contextlib.py",
    "utils/checkpoint.py",
    "utils/_pytree.py",
    "_tensor.py",
    "functional.py",
    "_jit_internal.py",
    "distributions/",
    "optim/",
    "ao/nn/",
    "random.py",
    "_prims_common/",
    "_refs/",
    "ops/",
    "_functorch/apis.py",
    "_compile.py",
)
# Parts of torch whose own frames are converted: what users call with no code of theirs around it, `optimizer.step` too.
_TORCH_CONVERTED = ("nn/modules/", "optim/")
# Standard library modules that are not traced: they look at frames, lock, or talk to the world.
_STDLIB_SKIPPED = (
    "logging/",
    "threading.py",
    "_threading_local.py",
    "traceback.py",
    "linecache.py",
    "inspect.py",
    "importlib/",
    "unittest/",
    "multiprocessing/",
    "concurrent/",
    "asyncio/",
    "socket.py",
    "subprocess.py",
    "tempfile.py",
    "shutil.py",
    "pathlib.py",
    "os.py",
    "posixpath.py",
    "warnings.py",
    "pdb.py",
    "bdb.py",
    "ast.py",
    "dis.py",
    "tokenize.py",
    "pickle.py",
    "json/",
    "urllib/",
    "email/",
    "xml/",
    "ctypes/",
    "sre_",
    "re/",
    "random.py",
    "contextvars.py",
    "weakref.py",
    "_weakrefset.py",
    "abc.py",
    "_py_abc.py",
    "doctest.py",
    "cProfile.py",
    "codecs.py",
    "encodings/",
    "gettext.py",
    "locale.py",
)
_LIBRARIES_SKIPPED = (
    "numpy",
    "pytest",
    "_pytest",
    "pluggy",
    "sympy",
    "networkx",
    "rich",
    "bytecode",
    "hypothesis",
    "triton",
)


_MEMORY_READERS = frozenset(
    {"get_objects", "get_referrers", "getrefcount", "gettotalrefcount", "getallocatedblocks", "getsizeof"}
)


class CallPolicy(enum.Enum):
    """What happens to a Python function that traced code calls."""

    INLINE = "traced through"
    SKIP = "not traced"


class Mark(enum.Enum):
    """What the user said about a function; kept in its attribute `__lampwork_mark__`."""

    DISABLED = "disabled"
    IN_GRAPH = "allowed in the graph"
    CONSTANT = "result assumed constant"


MARK = "__lampwork_mark__"
NATIVE_MARK = "__lampwork_native"  # a local of code that we made to run natively
PROTECTED_MARK = "__lampwork_protected"  # a local of code that we took out of a `try` of the user
OUTLINED_MARK = "__lampwork_outlined"  # the first local of the body of a loop that we made a function


class SkipPolicy:
    """The default policy. `of_code` is cached by code object."""

    def __init__(self) -> None:
        self._skipped_libraries = tuple(_library_folders(_LIBRARIES_SKIPPED))
        self._by_filename: dict[str, CallPolicy] = {}

    def of_code(self, code: CodeType) -> CallPolicy:
        """Whether a call of this code is traced through."""
        filename = code.co_filename
        if filename in _OS_FILES and code in _ENVIRON_CODES:
            return CallPolicy.INLINE
        known = self._by_filename.get(filename)
        if known is None:
            known = self._by_filename[filename] = self._of_filename(filename)
        return known

    def _of_filename(self, filename: str) -> CallPolicy:
        if filename.startswith(_POLYFILLS):
            return CallPolicy.INLINE
        if filename.startswith("<frozen "):
            return CallPolicy.INLINE if filename in _FROZEN_INLINED else CallPolicy.SKIP
        if filename.startswith((*_GENERATED, _HERE, *self._skipped_libraries)):
            return CallPolicy.SKIP
        if filename.startswith(_TORCH):
            inside = filename[len(_TORCH) :].replace(os.sep, "/")
            return CallPolicy.INLINE if inside.startswith(_TORCH_INLINED) else CallPolicy.SKIP
        if filename.startswith(_STDLIB) and "site-packages" not in filename:
            inside = filename[len(_STDLIB) :].replace(os.sep, "/")
            return CallPolicy.SKIP if inside.startswith(_STDLIB_SKIPPED) else CallPolicy.INLINE
        return CallPolicy.INLINE

    def is_torch(self, code: CodeType) -> bool:
        """Whether code is torch's own."""
        return code.co_filename.startswith(_TORCH)

    def converts_frame(self, code: CodeType) -> bool:
        """Whether the hook converts a frame of this code: torch and the standard library only run inside others."""
        filename = code.co_filename
        if filename.startswith("<frozen "):
            return False
        if code.co_name in _COMPREHENSIONS and OUTLINED_MARK not in code.co_varnames:
            return False
        if filename.startswith((_TORCH, _HERE)) or filename.startswith(_GENERATED):
            return (
                filename.startswith(_TORCH)
                and filename[len(_TORCH) :].startswith(_TORCH_CONVERTED)
                and (not filename.endswith("nn/modules/module.py"))
            )
        if filename.startswith(_STDLIB) and "site-packages" not in filename:
            return False
        return not filename.startswith(self._skipped_libraries)

    def check_call(self, code: CodeType, function: Any | None) -> None:
        """Raise GraphBreak if a call may not be traced through. `function` is the real function, if there is one."""
        if function is not None and is_disabled(function):
            raise GraphBreak(BreakId.DISABLED, f"`{function.__qualname__}` is disabled")
        if counts_objects(code):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{qualified_name(code)}` reads the interpreter's memory")
        if self.of_code(code) is CallPolicy.SKIP:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{qualified_name(code)}` of {code.co_filename} is not traced")


def runs_natively(code: CodeType) -> bool:
    """Whether we made this code to run as it stands: no policy may have it converted."""
    return NATIVE_MARK in code.co_varnames


def is_installed(code: CodeType) -> bool:
    """Whether code is of the standard library or an installed package, not of the program itself."""
    return code.co_filename.startswith(("<frozen ", *_INSTALLED))


def counts_objects(code: CodeType) -> bool:
    """Whether code measures the interpreter's memory: references, objects, sizes. Ours would show in it."""
    names = code.co_names
    return ("sys" in names or "gc" in names) and not _MEMORY_READERS.isdisjoint(names)


def is_disabled(function: Any) -> bool:
    """Whether the user excluded a function, with our `disable` or torch's."""
    attributes = getattr(function, "__dict__", None)
    if not attributes:
        return False
    return attributes.get(MARK) is Mark.DISABLED or bool(attributes.get("_torchdynamo_disable", False))


def is_kept_from_torch(function: Any) -> bool:
    """Whether torch's own capture, once it was used, excludes this function of torch's optimizers from itself."""
    original = getattr(function, "_torchdynamo_orig_callable", None)
    return (
        isinstance(original, FunctionType) and original.__module__.startswith("torch.optim") and is_disabled(function)
    )


def called_function(
    code: CodeType, local_values: Mapping[str, Any], global_values: Mapping[str, Any]
) -> FunctionType | None:
    """The function that a frame of this code runs, where the frame itself does not know it (CPython 3.10).

    Looked for where a decorated function is found again: in the globals, in the classes of the first argument, and, for
    a wrapper that torch made, among all functions. None if it is in none of these.
    """
    candidates: list[Any] = [global_values.get(code.co_name)]
    if code.co_argcount:
        owner = local_values.get(code.co_varnames[0])
        candidates += [vars(cls).get(code.co_name) for cls in type(owner).__mro__]
    if code.co_filename.startswith(_TORCH_CAPTURE):
        candidates += gc.get_referrers(code)
    for candidate in candidates:
        function = _wrapped_function(candidate, code)
        if function is not None:
            return function
    return None


def _wrapped_function(candidate: Any, code: CodeType) -> FunctionType | None:
    """The function of this code that `candidate` is or wraps; nothing of the user's runs."""
    while candidate is not None:
        if isinstance(candidate, FunctionType):
            if candidate.__code__ is code:
                return candidate
            candidate = candidate.__dict__.get("__wrapped__")
        elif isinstance(candidate, (staticmethod, classmethod)):
            candidate = candidate.__func__
        elif isinstance(candidate, _native.OptimizedCallable):
            candidate = candidate.function
        else:
            break
    return None


def mark_of(function: Any) -> Mark | None:
    """The mark of a function, or None."""
    attributes = getattr(function, "__dict__", None)
    return attributes.get(MARK) if attributes else None


def _library_folders(names: tuple[str, ...]) -> list[str]:
    folders: list[str] = []
    for name in names:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            continue
        if spec is not None and spec.submodule_search_locations:
            folders.extend(location + os.sep for location in spec.submodule_search_locations)
    return folders
