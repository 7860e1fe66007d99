"""torch's sample database with every float symbolic: one compilation of a sample, run with other floats.

Each sample that holds a Python float is traced with a symbol in its place, lowered and compiled for the CPU, and
compared with eager for the sample's floats and for others that the recorded facts admit. A graph that asks for a value
is refused.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lampwork_capture.aot import UnsupportedForAot, trace_functional
from lampwork_capture.aot.c_floats import no_float_decided
from lampwork_inductor_core import CompileOptions, Config, compile_graph
from lampwork_symshape.scalar_expr import FloatSymbol, evaluate
from lampwork_symshape.sym_node import TorchShapeEnv
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

sys.path.insert(0, str(Path(__file__).parent))

from opinfo_symbolic import RANDOM, BatchBackend, compare, operators

OPERATORS = (
    "add", "sub", "mul", "rsub", "lerp", "addcmul", "addcdiv", "addmm", "baddbmm", "addr", "clamp", "where",
    "full_like", "fill", "masked_fill", "float_power", "pow", "remainder", "fmod", "eq", "gt", "le",
    "linalg.vector_norm", "renorm",
    "index_add", "threshold", "nn.functional.threshold", "nn.functional.leaky_relu", "nn.functional.elu",
    "nn.functional.celu", "nn.functional.softplus", "nn.functional.hardtanh", "nn.functional.normalize", "xlogy",
    "linspace", "logspace", "polar", "isclose", "nn.functional.hardshrink", "nn.functional.softshrink",
)  # fmt: skip


@dataclass(slots=True)
class Case:
    """A compiled sample."""

    name: str
    function: Callable[..., list[Any]]
    tensors: list[torch.Tensor]
    floats: list[float]
    symbols: list[FloatSymbol]
    env: TorchShapeEnv
    outputs: Any
    compiled: Callable[..., list[Any]]

    def admits(self, floats: list[float]) -> bool:
        """Whether the facts of the trace hold."""
        values = dict(zip(self.symbols, floats))
        try:
            return all(repr(evaluate(f.expr, {}, values)) == repr(f.value) for f in self.env.scalar_facts)
        except (ArithmeticError, ValueError):
            return False


def samples(op: Any, dtype: torch.dtype) -> Iterator[tuple[Any, list[torch.Tensor], list[float]]]:
    """Functions of tensors and floats, with both."""
    for sample in itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=False), 8):
        leaves, spec = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
        places = [k for kind in (torch.Tensor, float) for k, leaf in enumerate(leaves) if isinstance(leaf, kind)]
        tensors = [leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor)]
        floats = [leaf for leaf in leaves if isinstance(leaf, float)]

        def function(*inputs: Any, leaves=leaves, spec=spec, places=places) -> list[Any]:
            filled = list(leaves)
            for place, value in zip(places, inputs):
                filled[place] = value
            first, arguments, keywords = pytree.tree_unflatten(filled, spec)
            return pytree.tree_leaves(op.op(first, *arguments, **keywords))

        if floats and tensors and all(t.numel() for t in tensors):
            yield function, tensors, floats


def compiled_case(name: str, function: Any, tensors: list[torch.Tensor], floats: list[float], backend: Any) -> Case:
    """Trace and compile. Raises UnsupportedForAot."""
    env = TorchShapeEnv(duck_shaping=False, symbolic_floats=True)
    mode = FakeTensorMode(shape_env=env)
    symbols = [env.create_float(value, f"float {k}") for k, value in enumerate(floats)]
    examples: list[Any] = [mode.from_tensor(t, static_shapes=True) for t in tensors]
    examples += [env.sym_float(symbol) for symbol in symbols]
    graph = torch.fx.Graph()
    inputs = [graph.placeholder(f"input{k}") for k in range(len(examples))]
    for node, example in zip(inputs, examples):
        node.meta["example_value"] = example
    graph.output((graph.call_function(function, tuple(inputs)),))
    with no_float_decided(examples):
        functional = trace_functional(torch.fx.GraphModule(torch.nn.Module(), graph), examples)
    if any(RANDOM in getattr(n.target, "tags", ()) for n in functional.graph.graph.nodes) or functional.lifted:
        raise UnsupportedForAot("random, or constants")
    options = CompileOptions(config=Config(verify=True), backends={"cpu": backend}, cache_static=False)
    compiled = compile_graph(functional.graph, examples, options=options)
    return Case(name, function, tensors, floats, symbols, env, functional.signature.outputs, compiled)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
def test_floats_of_samples(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    backend = BatchBackend()
    cases: list[Case] = []
    for op in operators():
        if op.name in OPERATORS and dtype in op.dtypes:
            for function, tensors, floats in samples(op, dtype):
                try:
                    cases.append(compiled_case(op.name, function, tensors, floats, backend))
                except UnsupportedForAot:
                    continue
    backend.build()
    compared = 0
    for case in cases:
        others = [f * 1.25 + 0.01 for f in case.floats]
        whole = [float(round(f)) if math.isfinite(f) else 2.0 for f in case.floats]
        for floats in (case.floats, others, [-f for f in case.floats], whole):
            if not case.admits(floats):
                continue
            try:
                expected = case.function(*[t.clone() for t in case.tensors], *floats)
            except RuntimeError:
                continue
            results = case.compiled([*[t.clone() for t in case.tensors], *floats])
            for spec, want in zip(case.outputs, expected):
                if spec.kind.name == "COMPUTED":
                    compare(results[spec.index], want, described=False)
            compared += 1
    assert compared > (20 if dtype == torch.int64 else 40), compared
