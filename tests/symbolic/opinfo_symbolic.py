"""torch's sample database with every size symbolic: one compilation of a sample, run at two sets of sizes.

Each sample of each operator is traced on fake tensors all of whose sizes (from 2 on) are symbols, lowered, compiled for
the CPU and compared with eager; then the same compiled graph runs on inputs of other sizes that the recorded facts
admit. A sample passes; or it is specialised (a fact pins a symbol to one number; reported with what forced it); or it
fails. Kernels of a whole batch of operators are built by one run of the compiler.

Run as a script for all operators: `python opinfo_symbolic.py [part/parts] [--samples N] [--dtypes float32,int64]`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import os
import random
import sys
import types
import unittest
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lampwork_capture.aot import UnsupportedForAot, trace_functional
from lampwork_inductor_core import CompileOptions, Config, compile_graph
from lampwork_inductor_core.lowering.graph import default_table
from lampwork_inductor_cpu.backend import CpuBackend
from lampwork_symshape import Symbol
from lampwork_symshape.scalar_expr import evaluate
from lampwork_symshape.shape_symbol import UserFrame
from lampwork_symshape.sym_node import TorchShapeEnv, sym_int
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

if "expecttest" not in sys.modules and importlib.util.find_spec("expecttest") is None:
    # the sample database imports torch's test harness, and that a library for golden texts which nothing here uses
    sys.modules["expecttest"] = types.ModuleType("expecttest")
    sys.modules["expecttest"].TestCase = unittest.TestCase
database = importlib.import_module("torch.testing._internal.common_methods_invocations")

LOWERED = frozenset(default_table())
RANDOM = torch.Tag.nondeterministic_seeded
# library calls from end to end, and slow to sample
SKIPPED = ("fft.", "sparse.", "signal.")


@dataclass(slots=True)
class Outcome:
    """What became of one sample. `status`: passed, specialised, failed, or why it says nothing."""

    operator: str
    status: str
    reason: str = ""
    other_sizes: bool = False
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Case:
    """A compiled sample, before its kernels are built."""

    outcome: Outcome
    function: Callable[..., list[Any]]
    tensors: list[torch.Tensor]
    env: TorchShapeEnv
    shapes: list[tuple[Any, Any]]
    compiled: Callable[..., list[Any]] | None = None
    outputs: Any = None
    described: list[bool] = field(default_factory=list)  # by result: torch's fake kernels give it eager's strides
    facts: list[str] = field(default_factory=list)


class BatchBackend(CpuBackend):
    """The CPU backend, which builds the kernels of all graphs that it has seen when the first of them is called."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[str, Any] = {}
        self.built: dict[str, Callable[..., None]] = {}

    def compile(self, sources: Sequence[Any]) -> Mapping[str, Callable[..., None]]:
        self.waiting.update({s.name: s for s in sources if s.name not in self.built})
        return {s.name: self._later(s.name) for s in sources}

    def _later(self, name: str) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            self.build()
            self.built[name](*arguments)

        return call

    def build(self) -> None:
        if self.waiting:
            self.built.update(super(BatchBackend, self).compile(list(self.waiting.values())))
            self.waiting.clear()


def frame_of_question() -> UserFrame | None:
    """The innermost line that asked about a size: of torch's or of ours, but not of the machinery of symbols."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        hidden = (
            "lampwork_symshape",
            "torch/_dynamo/",
            "torch/_compile.py",
            "_subclasses/",
            "fx/experimental/",
            "contextlib.py",
            "torch/__init__.py",
            "sym_node",
            "fake_tensor.py",
            "_ops.py",
            "torch/utils/",
        )
        if not any(part in name for part in hidden):
            short = "/".join(name.split("/")[-3:])
            return UserFrame(short, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return None


def symbolic_like(tensors: Sequence[torch.Tensor], lower: int) -> tuple[TorchShapeEnv, list[Any], list[Any]]:
    """Fake tensors of these shapes with a symbol for every size from `lower` on, and (sizes, strides) of each."""
    env = TorchShapeEnv(duck_shaping=False, symbolic_floats=True, find_frame=frame_of_question)
    mode = FakeTensorMode(shape_env=env, static_shapes=False)
    fakes: list[Any] = []
    shapes: list[Any] = []
    for number, tensor in enumerate(tensors):
        sizes = [
            env.create_backed(size, f"input {number}.size({dim})", lower=lower) if size >= lower else size
            for dim, size in enumerate(tensor.shape)
        ]
        strides = stride_expressions(tensor, sizes)
        shapes.append((sizes, strides))

        def given(value: Any) -> Any:
            return value if isinstance(value, int) else int(value) if value.is_constant else sym_int(value, env)

        with mode:
            fake = torch.empty_strided(
                tuple(map(given, sizes)), tuple(map(given, strides)), dtype=tensor.dtype, device=tensor.device
            )
        fakes.append(fake)
    return env, fakes, shapes


def stride_expressions(tensor: torch.Tensor, sizes: Sequence[Any]) -> list[Any]:
    """Strides in terms of the sizes, where they are a product of inner ones (times the innermost stride)."""
    order = sorted(range(tensor.dim()), key=lambda d: (tensor.stride(d), tensor.shape[d] if tensor.stride(d) else 0))
    strides: list[Any] = list(tensor.stride())
    running: Any = None
    expected = 0
    for dim in order:
        stride = tensor.stride(dim)
        if stride == 0:
            continue
        if running is None:
            running, expected = stride, stride
        if stride == expected:
            strides[dim] = running
            running, expected = running * sizes[dim], expected * tensor.shape[dim]
    return strides


def samples(op: Any, dtype: torch.dtype, count: int) -> Iterator[tuple[Any, list[torch.Tensor]]]:
    """Functions of tensors only, with their inputs; also with inputs that are not contiguous."""
    for sample in itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=False), count):
        for variant in (sample, sample.noncontiguous()) if dtype == torch.float32 else (sample,):
            leaves, spec = pytree.tree_flatten((variant.input, variant.args, variant.kwargs))
            places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
            tensors = [leaves[k].detach() for k in places]

            def function(*inputs: Any, leaves=leaves, spec=spec, places=places) -> list[Any]:
                filled = list(leaves)
                for place, value in zip(places, inputs):
                    filled[place] = value
                first, arguments, keywords = pytree.tree_unflatten(filled, spec)
                return pytree.tree_leaves(op.op(first, *arguments, **keywords))

            if tensors and all(t.layout is torch.strided and t.numel() for t in tensors):
                yield function, tensors


def compile_case(name: str, function: Any, tensors: list[torch.Tensor], backend: BatchBackend, lower: int) -> Case:
    """Trace and compile; errors become the outcome."""
    outcome = Outcome(name, "")
    env, fakes, shapes = symbolic_like(tensors, lower)
    case = Case(outcome, function, tensors, env, shapes)
    try:
        function(*[t.clone() for t in tensors])
    except Exception:
        outcome.status = "eager refuses"
        return case
    graph = torch.fx.Graph()
    inputs = [graph.placeholder(f"x{k}") for k in range(len(tensors))]
    for node, fake in zip(inputs, fakes):
        node.meta["example_value"] = fake
    graph.output((graph.call_function(function, tuple(inputs)),))
    try:
        module = torch.fx.GraphModule(torch.nn.Module(), graph)
        functional = trace_functional(module, fakes)
    except UnsupportedForAot as error:
        outcome.status, outcome.reason = ("not traceable", str(error)[:300])
        return case
    signature = functional.signature
    nodes = [n for n in functional.graph.graph.nodes if n.op == "call_function"]
    if any(RANDOM in getattr(n.target, "tags", ()) or "empty" in str(n.target) for n in nodes):
        outcome.status = "random or uninitialised"
        return case
    if signature.mutations or functional.lifted:
        outcome.status = "mutates"
        return case
    case.outputs = signature.outputs
    case.described = eager_strides(functional, function(*[t.clone() for t in tensors]))
    if not any(n.target in LOWERED for n in nodes):
        outcome.status = "library only"
        return case
    try:
        compiled = compile_graph(
            functional.graph,
            fakes,
            options=CompileOptions(config=Config(verify=True), backends={"cpu": backend}, cache_static=False),
        )
    except Exception as error:
        outcome.status, outcome.reason = "failed", f"compile: {type(error).__name__}: {str(error)[:300]}"
        if os.environ.get("OPINFO_RAISE"):
            raise
        return case
    outcome.notes = compiled.notes
    case.compiled = compiled
    return case


def eager_strides(functional: Any, expected: Sequence[Any]) -> list[bool]:
    """For each result of a trace, whether it is described with eager's strides. Where torch's own fake kernel for
    symbolic sizes describes it otherwise, nobody downstream can know better."""
    results = next(n for n in functional.graph.graph.nodes if n.op == "output").args[0]
    agree = [True] * len(results)
    for spec, want in zip(functional.signature.outputs, expected):
        if spec.kind.name == "COMPUTED" and isinstance(want, torch.Tensor):
            strides = results[spec.index].meta["val"].stride()
            traced = [s if isinstance(s, int) else s.node.hint for s in strides]
            agree[spec.index] = all(a == b or s == 1 for a, b, s in zip(traced, want.stride(), want.shape))
    return agree


def run_case(case: Case) -> Outcome:
    """Run a compiled case at the sizes that it was traced with and at others."""
    outcome = case.outcome
    if outcome.status:
        return outcome
    try:
        check(case, case.tensors)
        second = other_inputs(case)
        if second is not None:
            try:
                expected = case.function(*[t.clone() for t in second])
            except Exception:
                expected = None
            if expected is not None:
                outcome.other_sizes = True
                check(case, second)
    except Exception as error:
        sizes = "other sizes: " if outcome.other_sizes else ""
        outcome.status, outcome.reason = "failed", f"{sizes}{type(error).__name__}: {str(error)[:300]}"
        if os.environ.get("OPINFO_RAISE"):
            raise
        return outcome
    pinned = case.env.specializations
    decided = [f for f in case.env.scalar_facts if f.value is not float]  # not only that it raises nothing
    outcome.status = "specialised" if pinned or decided else "passed"
    if decided and not pinned:
        outcome.reason = f"{decided[0].expr} == {decided[0].value}  # {decided[0].frame}"
    if pinned:
        fact = next(f for f in case.env.facts if f.frame is pinned[0].frame) if pinned[0].frame else case.env.facts[0]
        outcome.reason = f"{fact}"
    case.facts = [str(f) for f in case.env.facts]
    return outcome


def check(case: Case, tensors: Sequence[torch.Tensor]) -> None:
    """Compare the compiled graph with eager."""
    expected = case.function(*[t.clone() for t in tensors])
    assert case.compiled is not None
    results = case.compiled(list(tensors))
    for spec, want in zip(case.outputs, expected):
        kind = spec.kind.name
        if kind == "COMPUTED":
            compare(results[spec.index], want, described=case.described[spec.index])
        elif kind == "CONSTANT":
            assert spec.constant == want or spec.constant != spec.constant, (spec.constant, want)


def compare(actual: Any, expected: Any, described: Any) -> None:
    """Values, and the strides where they matter: eager's, or those that torch's own fake kernels say."""
    if not isinstance(expected, torch.Tensor):
        assert actual == expected or (actual != actual and expected != expected), (actual, expected)
        return
    actual, expected = actual.resolve_conj().resolve_neg(), expected.resolve_conj().resolve_neg()
    half = expected.dtype in (torch.bfloat16, torch.float16)
    tolerance = 2e-2 if half else 2e-4
    torch.testing.assert_close(actual, expected, equal_nan=True, rtol=tolerance, atol=tolerance)
    if expected.numel():
        pairs = zip(actual.stride(), expected.stride(), expected.shape)
        same = all(a == b or s == 1 for a, b, s in pairs)
        assert same or not described, (actual.stride(), expected.stride())


def other_inputs(case: Case) -> list[torch.Tensor] | None:
    """Inputs of other sizes that satisfy the facts; None where there are none (within a search)."""
    env = case.env
    pinned = {s.symbol.symbol for s in env.specializations}
    free = [s for s in env.hints if s not in pinned]
    chance = random.Random(0)
    for attempt in range(300):
        values = dict(env.hints)
        for sym in free:
            hint = env.hints[sym]
            steps = (1, 3, 13, hint, 0, 37) if attempt < 150 else (0, 0, hint, -1, 2 * hint, 7)
            values[sym] = max(hint + chance.choice(steps), sym.lower or 0)
        if values == dict(env.hints) or not all(bool(f.condition.evaluate(values)) for f in env.facts):
            continue
        if any(evaluate(f.expr, values, {}) != f.value for f in env.scalar_facts):
            continue
        shapes = [[_value(n, values) for n in sizes] for sizes, _ in case.shapes]
        if sum(torch.Size(s).numel() for s in shapes) > 2_000_000:
            continue
        # Where one place is named twice, whichever thread of eager comes last wins: let both bring the same
        varied = all(tensor.is_floating_point() for tensor in case.tensors)
        return [
            _resized(tensor, shape, [_value(n, values) for n in strides], varied)
            for tensor, shape, (_, strides) in zip(case.tensors, shapes, case.shapes)
        ]
    return None


def _value(number: Any, values: Mapping[Symbol, int]) -> int:
    return number if isinstance(number, int) else int(number.evaluate(values))


def _resized(tensor: torch.Tensor, shape: list[int], strides: list[int], varied: bool) -> torch.Tensor:
    """A tensor of this shape and strides that repeats the elements of another; `varied`: floats a little smaller, each
    by another factor, as a matrix that repeats its rows is singular."""
    made = torch.empty_strided(shape, strides, dtype=tensor.dtype)
    flat = tensor.reshape(-1)
    count = made.numel()
    elements = flat[torch.arange(count) % flat.numel()]
    if varied and count > flat.numel():
        elements = elements * (1 - 0.02 * torch.rand(count, generator=torch.Generator().manual_seed(0)))
    made.copy_(elements.reshape(shape))
    return made


def operators(part: int = 0, parts: int = 1) -> list[Any]:
    """The operators of the database, or one of several parts of them."""
    ops = [op for op in database.op_db if not op.name.startswith(SKIPPED)]
    ops.sort(key=lambda op: (op.name, op.variant_test_name))
    return ops[part::parts]


def session(
    ops: Sequence[Any],
    *,
    dtypes: Sequence[torch.dtype] = (torch.float32,),
    count: int = 2,
    lower: int = 2,
    batch: int = 24,
) -> list[Outcome]:
    """All samples of these operators."""
    torch.manual_seed(0)
    backend = BatchBackend()
    outcomes: list[Outcome] = []
    work = [(op, dtype) for op in ops for dtype in dtypes if dtype in op.dtypes]
    for start in range(0, len(work), batch):
        cases: list[Case] = []
        for op, dtype in work[start : start + batch]:
            name = f"{op.name}{'.' if op.variant_test_name else ''}{op.variant_test_name}"
            name = name if dtype == torch.float32 else f"{name} {str(dtype).removeprefix('torch.')}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    cases.extend(compile_case(name, f, t, backend, lower) for f, t in samples(op, dtype, count))
                except RuntimeError as error:
                    if os.environ.get("OPINFO_RAISE"):
                        raise
                    outcomes.append(Outcome(name, "no samples", str(error)[:100]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                backend.build()
            except Exception as error:
                outcomes.append(Outcome("build", "failed", str(error)[:1500]))
                backend.waiting.clear()
            outcomes.extend(run_case(case) for case in cases)
    return outcomes


def report(outcomes: Sequence[Outcome]) -> int:
    """Print the counts, the specialised operators with reasons, and the failures. The number of failures."""
    counts = Counter(o.status for o in outcomes)
    print("\nspecialised:")
    seen: set[tuple[str, str]] = set()
    for o in outcomes:
        if o.status == "specialised" and (o.operator, o.reason) not in seen:
            seen.add((o.operator, o.reason))
            print(f"  {o.operator:<44} {o.reason}")
    print("\nfailed:")
    for o in outcomes:
        if o.status == "failed":
            print(f"  {o.operator:<44} {o.reason}")
    untraced = {(o.operator, o.reason) for o in outcomes if o.status == "not traceable"}
    print("\nnot traceable:")
    for name, reason in sorted(untraced):
        print(f"  {name:<44} {reason[:200]}")
    print(f"\npassed {counts['passed']}, specialised {counts['specialised']}, failed {counts['failed']}")
    print(f"ran at other sizes too: {sum(o.other_sizes for o in outcomes)}")
    print("apart from these:", {k: v for k, v in counts.items() if k not in ("passed", "specialised", "failed")})
    called: Counter[str] = Counter()
    for o in outcomes:
        called.update({note.split(": ", 1)[1] for note in o.notes})
    print("\ncalled as they are:")
    for note, number in called.most_common():
        print(f"  {number:4} {note}")
    return counts["failed"]


def main() -> int:
    parser = argparse.ArgumentParser(description="operators with symbolic sizes")
    parser.add_argument("part", nargs="?", default="0/1", help="k/n: the k-th of n parts")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--lower", type=int, default=2)
    parser.add_argument("--dtypes", default="float32")
    parser.add_argument("--ops", default="")
    chosen = parser.parse_args()
    part, parts = map(int, chosen.part.split("/"))
    dtypes = [getattr(torch, name) for name in chosen.dtypes.split(",")]
    ops = [op for op in operators(part, parts) if not chosen.ops or op.name in chosen.ops.split(",")]
    return report(session(ops, dtypes=dtypes, count=chosen.samples, lower=chosen.lower))


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
