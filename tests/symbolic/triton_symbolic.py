"""Graphs with symbolic sizes through the Triton backend, under its interpreter: one compilation, several sizes.

A program of its own, because the interpreter must be chosen before triton is imported. The backend stands in for the
CPU's, so that the host program allocates CPU tensors.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "0")

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from lampwork_capture.aot import trace_functional
from lampwork_inductor_core import CompileOptions, compile_graph
from lampwork_inductor_gpu.backend import TritonBackend
from lampwork_inductor_gpu.device import H100
from lampwork_symshape.sym_node import TorchShapeEnv, sym_int
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.runtime.interpreter import interpreter_builder

object.__setattr__(interpreter_builder.options, "debug", True)
object.__setattr__(interpreter_builder.options, "sanitize_overflow", False)

WIDTH = 24
SIZES = ({"B": 2, "S": 3}, {"B": 1, "S": 1}, {"B": 2, "S": 23}, {"B": 5, "S": 1})

Program = Callable[..., Any]
PROGRAMS: dict[str, tuple[Program, list[tuple[Any, ...]]]] = {
    "pointwise": (lambda x, y: F.gelu(x + y) * 2, [("B", "S", WIDTH), ("B", "S", WIDTH)]),
    "broadcast": (lambda x, y: x * y + 1, [("B", "S", WIDTH), ("S", 1)]),
    "softmax": (lambda x: torch.softmax(x * 0.5, -1), [("B", 2, "S", "S")]),
    "layer norm": (
        lambda x, y, w: F.layer_norm(x + y, (WIDTH,), w, w),
        [("B", "S", WIDTH), ("B", "S", WIDTH), (WIDTH,)],
    ),
    "sums": (lambda x: (x * x).sum(), [("B", "S", WIDTH)]),
    "mean of columns": (lambda x: x.mean(1), [("B", "S", WIDTH)]),
    "concatenation": (lambda x, y: torch.cat([x, y], 1).relu(), [("B", "S", WIDTH), ("B", 4, WIDTH)]),
    "number of sizes": (lambda x: x / x.shape[0] + x.shape[1], [("B", "S", WIDTH)]),
    "argmax": (lambda x: x.argmax(1), [("B", "S", 3)]),
    "triangle": (lambda x: x.tril(), [("B", "S", "S")]),
}


FLOATS = (0.37, 1.0, 1 + 2**-40, -2.5, 1e-40, float("inf"))
OF_FLOATS: dict[str, tuple[Program, list[tuple[Any, ...]]]] = {
    "scale": (lambda x, f: x * (f / 3.0) + f, [("B", "S", WIDTH)]),
    "temperature": (lambda x, f: torch.softmax(x / f, -1), [("B", 2, "S", "S")]),
    "clamp": (lambda x, f: x.clamp(max=f).sum(-1), [("B", "S", WIDTH)]),
    "fill": (lambda x, f: torch.full_like(x, f), [("B", "S", WIDTH)]),
    "choice": (lambda x, f: torch.where(x > f, x.double(), f * 2.0), [("B", "S", WIDTH)]),
}

INTS = (1, 2, 0, 3, 2**33)
OF_INTS: dict[str, tuple[Program, list[tuple[Any, ...]]]] = {
    "plus an int": (lambda x, n: x + n, [(6,)]),
    "arange up to an int": (lambda x, n: torch.where(torch.arange(6) <= n, x, 0.0), [(6,)]),
    "product with an int": (lambda x, n: torch.arange(6) * n % 7, [(6,)]),
}
OF_POSITIONS: dict[str, tuple[Program, list[tuple[Any, ...]]]] = {
    "slice": (lambda x, n: x[n : n + 2] * 2, [(9,)]),
    "roll": (lambda x, n: x.roll(n) * 2, [(6,)]),
    "roll of rows": (lambda x, n: x.roll(n, 1) * 2, [("B", 6)]),
}


def compiled(
    program: Program, shapes: list[tuple[Any, ...]], *, with_float: bool = False, with_int: bool = False
) -> Callable[..., list[Any]]:
    """The graph for symbols from 1 on, and for all floats and ints from 0 on, compiled by the Triton backend."""
    env = TorchShapeEnv(duck_shaping=False, symbolic_floats=True)
    mode = FakeTensorMode(shape_env=env, static_shapes=False)
    symbols = {name: sym_int(env.create_backed(hint, name, lower=1), env) for name, hint in SIZES[0].items()}
    with mode:
        fakes: list[Any] = [torch.empty(tuple(symbols.get(size, size) for size in shape)) for shape in shapes]
    if with_float:
        fakes.append(env.sym_float(env.create_float(0.5, "f")))
    if with_int:
        fakes.append(sym_int(env.create_backed(INTS[0], "n", lower=0), env))
    graph = torch.fx.Graph()
    inputs = [graph.placeholder(f"x{k}") for k in range(len(fakes))]
    for node, fake in zip(inputs, fakes):
        node.meta["example_value"] = fake
    graph.output((graph.call_function(program, tuple(inputs)),))
    functional = trace_functional(torch.fx.GraphModule(torch.nn.Module(), graph), fakes)
    backend = TritonBackend(H100)
    backend.device_type = "cpu"
    return compile_graph(functional.graph, fakes, options=CompileOptions(backends={"cpu": backend}))


def main() -> None:
    torch.manual_seed(0)
    for name, (program, shapes) in PROGRAMS.items():
        call = compiled(program, shapes)
        for sizes in SIZES:
            inputs = [torch.randn(tuple(sizes.get(size, size) for size in shape)) for shape in shapes]
            torch.testing.assert_close(call(inputs)[0], program(*inputs), rtol=1e-4, atol=1e-4, msg=f"{name} {sizes}")
        print(f"{name}: {len(SIZES)} sizes")
    for name, (program, shapes) in OF_FLOATS.items():
        call = compiled(program, shapes, with_float=True)
        inputs = [torch.randn(tuple(SIZES[0].get(size, size) for size in shape)) for shape in shapes]
        for number in FLOATS:
            expected = program(*inputs, number)
            torch.testing.assert_close(
                call([*inputs, number])[0], expected, rtol=1e-5, atol=1e-5, equal_nan=True, msg=f"{name} {number}"
            )
        print(f"{name}: {len(FLOATS)} floats")
    for programs, ints in ((OF_INTS, INTS), (OF_POSITIONS, INTS[:4])):
        for name, (program, shapes) in programs.items():
            call = compiled(program, shapes, with_int=True)
            inputs = [torch.randn(tuple(SIZES[0].get(size, size) for size in shape)) for shape in shapes]
            for number in ints:
                torch.testing.assert_close(call([*inputs, number])[0], program(*inputs, number), msg=f"{name} {number}")
            print(f"{name}: {len(ints)} ints")


if __name__ == "__main__":
    main()
