"""Results that are new values of inputs are written over them where nothing reads the old value afterwards.

Each program is compiled with what the caller would copy back named in the graph's `meta`. Whether it is written in
place or copied, inputs and results are then as in eager, at the first, checked call and at the next one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lampwork_inductor_core import CompileOptions, compile_graph
from lampwork_inductor_core.config import Config

X, Y = torch.linspace(-2.0, 2.0, 36).view(6, 6), torch.linspace(0.5, 3.0, 36).view(6, 6)


def _compiled(
    aten: Any, interpreted: Any, function: Any, inputs: Any, new_values: dict[int, int], **config: Any
) -> Any:
    graph = aten(function, *inputs)
    graph.meta["new_values"] = new_values
    options = CompileOptions(config=Config(verify=True, **config), backends={"cpu": interpreted()}, keep_artifacts=True)
    return compile_graph(graph, inputs, options=options)


def _call(compiled: Any, inputs: Any, new_values: dict[int, int]) -> tuple[list[Any], list[bool]]:
    """The results, once the inputs have their new values; and which of these were written in place."""
    results = compiled(*inputs)
    in_place = [results[result] is inputs[position] for result, position in new_values.items()]
    for result, position in new_values.items():
        if results[result] is not inputs[position]:
            inputs[position].copy_(results[result])
    return results, in_place


PROGRAMS: list[Any] = [
    pytest.param(lambda x, y: (x * 2 + y,), {0: 0}, [True], id="same index"),
    pytest.param(lambda x, y: (y * 2,), {0: 0}, [True], id="never read"),
    pytest.param(lambda x, y: (x.sum(0) * y, x.sum()), {0: 0}, [True], id="read by earlier kernels"),
    pytest.param(lambda x, y: (x + y, x * y), {0: 0, 1: 1}, [False, True], id="two that read each other"),
    pytest.param(lambda x, y: (torch.softmax(x, -1),), {0: 0}, None, id="rows"),
    pytest.param(
        lambda x, y: (x.index_copy(0, torch.arange(3) * 2, y[:3]),), {0: 0}, [False], id="scatter of the library"
    ),
    pytest.param(lambda x, y: (x.t() + y,), {0: 0}, [False], id="another index"),
    pytest.param(lambda x, y: (x.flip(0).cumsum(0) + 1,), {0: 0}, None, id="scan"),
    pytest.param(lambda x, y: (x + 1, x.flip(1).exp()), {0: 0}, None, id="read at another index too"),
    pytest.param(lambda x, y: (x + 1, x), {0: 0}, [False], id="old value returned"),
    pytest.param(lambda x, y: (x + 1, x[1:]), {0: 0}, [False], id="part of the old value returned"),
    pytest.param(lambda x, y: (x + 1, (x + 1).t()), {0: 0}, None, id="returned twice"),
    pytest.param(lambda x, y: (x + 1, y @ y), {0: 0}, None, id="beside a call"),
    pytest.param(lambda x, y: (x + 1, (x + 1) @ y), {0: 0}, [False], id="before a call"),
    pytest.param(lambda x, y: (x @ y + x,), {0: 0}, [True], id="behind a call"),
    pytest.param(lambda x, y: ((x + y).t().contiguous().t(),), {0: 0}, [False], id="other strides"),
    pytest.param(lambda x, y: ((x + y).double(),), {0: 0}, [False], id="other dtype"),
]


@pytest.mark.parametrize(("function", "new_values", "expected"), PROGRAMS)
def test_inputs_and_results_are_as_in_eager(aten, interpreted, function, new_values, expected):
    given = (X.clone(), Y.clone())
    compiled = _compiled(aten, interpreted, function, given, new_values)
    eager = (X.clone(), Y.clone())
    for _ in range(2):
        results, in_place = _call(compiled, given, new_values)
        wanted = [result.clone() for result in function(*eager)]
        for result, position in new_values.items():
            eager[position].copy_(wanted[result])
        for mine, other in zip(given, eager, strict=True):
            torch.testing.assert_close(mine, other)
        for number, (mine, other) in enumerate(zip(results, wanted, strict=True)):
            if number not in new_values and mine is not given[0]:
                written = {given[position].untyped_storage().data_ptr() for position in new_values.values()}
                if mine.untyped_storage().data_ptr() not in written:
                    torch.testing.assert_close(mine, other)
                else:  # a view of the input as it was given: only the caller knows what becomes of it
                    assert expected == [False]
        assert expected is None or in_place == expected


def test_a_scatter_starts_from_the_old_value(aten, interpreted):
    x, y = X.clone(), Y.clone()
    compiled = _compiled(
        aten, interpreted, lambda a, b: (a.index_copy(0, torch.arange(3) * 2, b[:3]),), (x, y), {0: 0},
        lower_scatter=True,
    )  # fmt: skip
    assert compiled(x, y)[0] is x
    torch.testing.assert_close(x, X.index_copy(0, torch.arange(3) * 2, Y[:3]))


def test_nothing_is_written_unless_the_caller_says_so(compile_interpreted):
    x = X.clone()
    compiled, _ = compile_interpreted(lambda a: (a * 2,), [x])
    compiled(x)
    assert torch.equal(x, X)


def test_what_is_made_of_a_written_parameter_is_not_kept(aten, interpreted):
    weight, y = X.clone(), Y.clone()
    graph = aten(lambda w, v: (w * 0.5 + v,), weight, y)
    graph.meta["new_values"] = {0: 0}
    options = CompileOptions(backends={"cpu": interpreted()}, static_inputs=frozenset({0}))
    compiled = compile_graph(graph, [weight, y], options=options)
    assert compiled.static_cache is None
    compiled(weight, y)
    compiled(weight, y)
    torch.testing.assert_close(weight, (X * 0.5 + Y) * 0.5 + Y)
