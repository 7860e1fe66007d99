"""Binding: built kernels as Python callables that cost well under a microsecond to call.

A library exports one table of CPython methods, generated with its kernels: each takes tensors (or raw addresses) and
then integers and floats, and calls the kernel. No Python.h is needed, only names of the stable ABI. Invariant: a
kernel that reported a failure raises what eager raises.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import BufferArgument, KernelSource, SizeArgument

from .parameters import type_of

_ENTRY_BYTES = 4 * ctypes.sizeof(ctypes.c_void_p)


def binding_text(sources: Sequence[KernelSource]) -> str:
    """The C++ text of the method table for these kernels."""
    functions = "".join(_function_text(source) for source in sources)
    rows = "".join(f'  {{"{s.name}", (void*)bind_{s.name}, METH_FASTCALL, nullptr}},\n' for s in sources)
    return (
        f'\n#include "lampwork_bind.h"\n{functions}\n'
        f'extern "C" __attribute__((visibility("default"))) PyMethodDef lampwork_methods[] = {{\n{rows}}};\n'
    )


def _function_text(source: KernelSource) -> str:
    count = len(source.arguments)
    reads: list[str] = []
    calls: list[str] = []
    for position, argument in enumerate(source.arguments):
        if isinstance(argument, BufferArgument):
            reads.append(f"  void* const p{position} = address(given[{position}], &bad);\n")
            calls.append(f"({type_of(argument)})p{position}")
        else:
            read = "integer" if isinstance(argument, SizeArgument) else "floating"
            reads.append(f"  const {type_of(argument)} p{position} = {read}(given[{position}], &bad);\n")
            calls.append(f"p{position}")
    status = bool(source.launch["status"])
    if status:
        calls.append("&failed")
    if source.launch["threads"]:
        calls.append("lampwork_threads()")
    call = f"{source.name}({', '.join(calls)});"
    if source.launch["release_gil"]:
        call = f"void* const state = PyEval_SaveThread();\n  {call}\n  PyEval_RestoreThread(state);"
    after = "failed.failure ? raise(failed) : none()" if status else "none()"
    declare = "  lw::status failed{};\n" if status else ""
    return (
        f"static PyObject* bind_{source.name}(PyObject*, PyObject* const* given, Py_ssize_t count) {{\n"
        f'  if (count != {count}) return wrong_count("{source.name}", {count}, count);\n'
        f"  bool bad = false;\n{''.join(reads)}  if (bad) return nullptr;\n{declare}  {call}\n  return {after};\n}}\n"
    )


@functools.lru_cache(maxsize=1)
def _thread_count_address() -> int:
    """torch's own function that says how many threads a kernel may use, for the calling thread."""
    suffix = "dylib" if sys.platform == "darwin" else "so"
    library = Path(torch.__file__).parent / "lib" / f"libtorch_cpu.{suffix}"
    try:
        function: Any = ctypes.CDLL(str(library))._ZN2at15get_num_threadsEv
    except (OSError, AttributeError):
        return 0
    return cast("int", ctypes.cast(function, ctypes.c_void_p).value)


def load_library(path: Path, names: Sequence[str]) -> dict[str, Callable[..., None]]:
    """The kernels of a built library, by name. The library stays loaded for the life of the process."""
    library = ctypes.CDLL(str(path))
    setter = library.lampwork_set_threads
    setter.argtypes = [ctypes.c_void_p, ctypes.c_int]
    setter.restype = None
    setter(_thread_count_address(), torch.get_num_threads())
    table = ctypes.addressof(ctypes.c_char.in_dll(library, "lampwork_methods"))
    make: Any = ctypes.pythonapi.PyCFunction_NewEx
    make.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    make.restype = ctypes.py_object
    made = (make(table + position * _ENTRY_BYTES, None, None) for position in range(len(names)))
    return dict(zip(names, made))
