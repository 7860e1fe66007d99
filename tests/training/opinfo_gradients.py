"""torch's sample database, differentiated: compiled gradients equal eager's, of first and second order, in fp64.

Each sample of each differentiable operator is compiled for training and differentiated with random tangents; where the
database says that second derivatives exist, the gradients are differentiated again. A sample passes; or it fell back
(the operator has no functional form or no derivative here, and runs eagerly: told with the reason); or it failed.

Run as a script: `python opinfo_gradients.py [part/parts] [--samples N] [--names a,b] [--interpreted] [--order 1|2]`.
`--interpreted` runs the ATen graphs as they are, without the lowering.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
import types
import unittest
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lampwork_capture.aot import TRAINING, UnsupportedForAot, aot_backend
from lampwork_inductor_core import CompileOptions, compile_graph
from torch import Tensor, fx
from torch.utils import _pytree as pytree

if "expecttest" not in sys.modules and importlib.util.find_spec("expecttest") is None:
    # the sample database imports torch's test harness, and that a library for golden texts which nothing here uses
    sys.modules["expecttest"] = types.ModuleType("expecttest")
    sys.modules["expecttest"].TestCase = unittest.TestCase
database = importlib.import_module("torch.testing._internal.common_methods_invocations")

SEED = 42  # what the database's own wrappers of random operators set in each call
# Eager's own results depend on more than the inputs: memory that nobody wrote, or a choice among equals.
NOT_COMPARABLE = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sample at one order. `status`: passed, fell back, failed, or why it says nothing."""

    operator: str
    order: int
    status: str
    reason: str = ""


def lowered(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> Any:
    """The lowering under test, as the whole stack calls it."""
    options = CompileOptions(check_inputs=False, weights_change=bool(graph.meta.get(TRAINING)))
    return compile_graph(graph, example_inputs, options=options)


def interpreted(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> Any:
    """The ATen graph itself."""
    return graph.forward


def operators(names: Sequence[str] = ()) -> list[Any]:
    """Every differentiable operator of the database, or those named."""
    found = [
        op for op in database.op_db if op.supports_autograd and torch.float64 in op.supported_backward_dtypes("cpu")
    ]
    return [op for op in found if not names or op.name in names]


class Program:
    """A sample as a graph of one call, and its inputs."""

    def __init__(self, op: Any, sample: Any) -> None:
        leaves, spec = pytree.tree_flatten(((sample.input, *sample.args), sample.kwargs))
        graph = fx.Graph()
        self.inputs: list[Tensor] = []
        slots: list[Any] = []
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                slots.append(graph.placeholder(f"x{len(self.inputs)}"))
                self.inputs.append(leaf)
            else:
                slots.append(leaf)

        def call(*values: Any) -> Any:
            args, kwargs = pytree.tree_unflatten(list(values), spec)
            return op.op(*args, **kwargs)

        if op.op in (torch.nn.functional.batch_norm, torch.nn.functional.instance_norm):  # known by name to the trace
            args, kwargs = pytree.tree_unflatten(slots, spec)
            graph.output(graph.call_function(op.op, tuple(args), kwargs))
        else:
            graph.output(graph.call_function(call, tuple(slots)))
        self.module = fx.GraphModule(torch.nn.Module(), graph)
        self.process = sample.output_process_fn_grad

    def copies(self) -> list[Tensor]:
        """The inputs, as leaves."""
        return [t.detach().clone().requires_grad_(t.requires_grad) for t in self.inputs]

    def gradients(self, function: Callable[..., Any], order: int, chosen: list[list[int]] | None = None) -> list[Any]:
        """Everything that a run and its derivatives up to `order` give; tangents are the same in every run.

        `chosen` receives or, if it is not empty, says which values of each order are differentiated: a compiled
        gradient is always differentiable, an eager one only where its derivative is not zero throughout.
        """
        chosen = [] if chosen is None else chosen
        is_first = not chosen
        inputs = self.copies()
        leaves = [t for t in inputs if t.requires_grad]
        torch.manual_seed(SEED)
        values = outputs = pytree.tree_leaves(function(*inputs))
        generator = torch.Generator().manual_seed(SEED)
        found: list[Any] = [o.detach() if isinstance(o, Tensor) else o for o in outputs]
        sources = leaves
        for level in range(1, order + 1):
            if is_first:
                chosen.append([i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad])
            values = [values[i] for i in chosen[level - 1]]
            if not values:
                return found
            tangents = [
                torch.randn(v.shape, dtype=v.dtype, generator=generator).requires_grad_(level < order) for v in values
            ]
            values = torch.autograd.grad(values, sources, tangents, create_graph=level < order, allow_unused=True)
            found += [None if v is None else v.detach() for v in values]
            sources = [*sources, *tangents]
        return found


def check(op: Any, sample: Any, order: int, compiler: Any) -> Outcome:
    """Differentiate one sample, eagerly and compiled."""
    name = op.name if not op.variant_test_name else f"{op.name}.{op.variant_test_name}"
    program = Program(op, sample)
    if any(type(t) not in (Tensor, torch.nn.Parameter) or t.layout is not torch.strided for t in program.inputs):
        return Outcome(name, order, "no plain tensors")
    if not any(t.requires_grad for t in program.inputs):
        return Outcome(name, order, "nothing to differentiate")
    try:
        chosen: list[list[int]] = []
        expected = program.gradients(program.module.forward, order, chosen)
    except Exception as error:
        return Outcome(name, order, "eager raises", str(error)[:80])
    try:
        compiled = aot_backend(compiler)(program.module, program.copies())
        actual = program.gradients(compiled, order, chosen)
    except UnsupportedForAot as error:
        return Outcome(name, order, "fell back", error.reason)
    except Exception as error:
        return Outcome(name, order, "failed", f"{type(error).__name__}: {str(error)[:300]}")
    if op.name in NOT_COMPARABLE:
        return Outcome(name, order, "not comparable")
    try:
        for got, want in zip(actual, expected, strict=True):
            if isinstance(want, Tensor) and isinstance(got, Tensor):
                torch.testing.assert_close(got, want, equal_nan=True, rtol=1e-6, atol=1e-8)
            elif isinstance(want, Tensor) or isinstance(got, Tensor):
                some = want if got is None else got  # an undefined gradient is one of zeros
                if (want is not None and got is not None) or bool(torch.count_nonzero(some)):
                    raise AssertionError(f"{got} instead of {want}")
            elif got != want:
                raise AssertionError(f"{got} instead of {want}")
    except AssertionError as error:
        return Outcome(name, order, "failed", str(error)[:300].replace("\n", " "))
    return Outcome(name, order, "passed")


def session(
    ops: Sequence[Any], count: int, compiler: Any, orders: Sequence[int] = (1, 2), *, highest: bool = False
) -> Iterator[Outcome]:
    """The outcomes of the first `count` samples of each operator.

    `highest`: at the highest order alone, which compares what the lower ones give, too.
    """
    for op in ops:
        try:
            samples = [s for _, s in zip(range(count), op.sample_inputs("cpu", torch.float64, requires_grad=True))]
        except Exception as error:
            yield Outcome(op.name, 0, "no samples", str(error)[:80])
            continue
        for sample in samples:
            supported = [order for order in orders if order == 1 or op.supports_gradgrad]
            for order in supported[-1:] if highest else supported:
                yield check(op, sample, order, compiler)


def report(outcomes: Sequence[Outcome]) -> int:
    """Print counts and what did not pass; returns the number of failures."""
    for order in sorted({o.order for o in outcomes if o.order}):
        counts = Counter(o.status for o in outcomes if o.order == order)
        print(f"derivatives of order {order}: {', '.join(f'{n} {status}' for status, n in counts.most_common())}")
    for status in ("fell back", "failed"):
        reasons = Counter((o.operator, o.order, o.reason) for o in outcomes if o.status == status)
        for (name, order, reason), times in sorted(reasons.items()):
            print(f"  {status}: {name}, order {order}, {times} times: {reason}")
    return sum(o.status == "failed" for o in outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="1/1")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--names", default="")
    parser.add_argument("--interpreted", action="store_true")
    parser.add_argument("--order", type=int, default=0)
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    warnings.simplefilter("ignore")
    chosen = operators(tuple(filter(None, options.names.split(","))))[part - 1 :: parts]
    compiler = interpreted if options.interpreted else lowered
    started = time.perf_counter()
    outcomes: list[Outcome] = []
    for outcome in session(chosen, options.samples, compiler, (options.order,) if options.order else (1, 2)):
        outcomes.append(outcome)
    failures = report(outcomes)
    print(f"{len(chosen)} operators in {time.perf_counter() - started:.0f} s")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
