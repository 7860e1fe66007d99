"""The form of a wrapper that asks for the memory of results: where they lie, and that they are what they always are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from lampwork_inductor_core import CompiledGraph, CompileOptions, compile_graph
from lampwork_inductor_core.codegen.given_memory import given_memory
from lampwork_inductor_core.codegen.wrapper import Allocate, ExternCall, OutputValue, Return, TakeOver
from lampwork_inductor_core.ir.buffer import BufferView
from lampwork_inductor_core.ir.layout import Layout
from lampwork_inductor_core.runtime.compiled_graph import Form, Repairs, load_wrapper
from lampwork_symshape import integer


class Memory:
    """Brings memory full of nan, the same in every call."""

    def __init__(self) -> None:
        self.brought: dict[int, torch.Tensor] = {}
        self.asked: list[int] = []

    def __call__(
        self, number: int, sizes: Sequence[int], strides: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        self.asked.append(number)
        if number not in self.brought:
            self.brought[number] = torch.empty_strided(sizes, strides, dtype=dtype, device=device)
        found = self.brought[number]
        assert (found.shape, found.stride(), found.dtype) == (torch.Size(sizes), tuple(strides), dtype)
        return found.fill_(float("nan") if dtype.is_floating_point else 77)

    def holds(self, result: torch.Tensor) -> bool:
        return any(result.untyped_storage()._cdata == m.untyped_storage()._cdata for m in self.brought.values())


def given_form(compiled: CompiledGraph) -> tuple[Callable[..., list[Any]], str]:
    text, parts = compiled._parts.write(Repairs(), Form(given=True)), compiled._parts
    return load_wrapper(text, parts.kernels, parts.constants, parts.externs), text


def chain(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x @ w
    z = (y.softmax(-1) @ w).relu().softmax(-1)
    return (z * 2, z.sum(-1))


def kept_and_read(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = (x @ w).relu()
    return (y, (y @ w).view(2, -1), (y @ w).sum(0))


def views(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x @ w
    return (y, y.t(), y[1], x, w.t(), (x + 1).expand(2, 4, 4))


def library(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    values, order = torch.sort(x @ w)
    return (values, order, values + 1)


def empty(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (x[:0] * 2, x @ w)


@pytest.mark.parametrize(("function", "given"), [(chain, 2), (kept_and_read, 3), (views, 2), (library, 1), (empty, 2)])
def test_results_lie_in_the_memory_that_is_brought(
    interpreted: Any, aten: Any, function: Callable[..., tuple[torch.Tensor, ...]], given: int
) -> None:
    inputs = (torch.randn(4, 4), torch.randn(4, 4))
    options = CompileOptions(backends={"cpu": interpreted()})
    compiled = compile_graph(aten(function, *inputs), inputs, options=options)
    call, text = given_form(compiled)
    plain = compiled.text
    memory = Memory()
    for _ in range(2):
        inputs = (torch.randn(4, 4), torch.randn(4, 4))
        memory.asked.clear()
        found, wanted = call(inputs, memory), compiled(*inputs)
        assert memory.asked == list(range(given)), text
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other)
            assert one.stride() == other.stride() and one.storage_offset() == other.storage_offset()
            assert one.untyped_storage().nbytes() == other.untyped_storage().nbytes()
        of_inputs = {i.untyped_storage()._cdata for i in inputs}
        own = [r for r in found if r.untyped_storage()._cdata not in of_inputs]
        assert sum(memory.holds(r) for r in own) >= given
    assert "memory(" not in plain and plain == compiled.text


LAYOUT = Layout(torch.device("cpu"), torch.float32, (integer(4),), (integer(1),), integer(0))


def view_of(name: str, source: str) -> ExternCall:
    """A view by an operator."""
    view = BufferView(source, LAYOUT)
    return ExternCall("c", torch.ops.aten.t.default, (view,), {}, ((None, name, LAYOUT),), aliased=True)


def returned(*names: str) -> Return:
    return Return(tuple(OutputValue(name) for name in names))


@pytest.mark.parametrize(
    ("lines", "given"),
    [
        ((Allocate("a", LAYOUT), Allocate("b", LAYOUT), returned("b")), ("b",)),
        ((Allocate("a", LAYOUT), TakeOver("b", "a"), TakeOver("c", "b", LAYOUT), returned("c")), ("a",)),
        ((TakeOver("b", "input"), Allocate("a", LAYOUT), returned("b", "input", "a")), ("a",)),
        ((Allocate("a", LAYOUT), view_of("v", "a"), Allocate("b", LAYOUT), returned("v")), ("a",)),
        ((Allocate("a", LAYOUT), Return((OutputValue("a", fresh=True), OutputValue(None, literal=3)))), ()),
        ((Allocate("b", LAYOUT), Allocate("a", LAYOUT), returned("a", "a", "b")), ("b", "a")),
    ],
)
def test_memory_is_brought_for_the_first_buffer_of_a_chain(lines: tuple[Any, ...], given: tuple[str, ...]) -> None:
    assert given_memory(lines) == given


def test_an_input_may_be_called_memory(interpreted: Any, aten: Any) -> None:
    def function(memory: torch.Tensor) -> torch.Tensor:
        return memory * 2

    x = torch.randn(3)
    graph = aten(function, x)
    (node,) = graph.graph.find_nodes(op="placeholder")
    node.name = node.target = "memory"
    graph.recompile()
    compiled = compile_graph(graph, (x,), options=CompileOptions(backends={"cpu": interpreted()}))
    call, text = given_form(compiled)
    assert torch.equal(call((x,), Memory())[0], x * 2), text
