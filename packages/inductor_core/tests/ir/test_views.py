"""Index maps: reshapes agree with torch, affine maps become strides, views of views compose."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lampwork_inductor_core.ir.layout import Layout, contiguous_strides
from lampwork_inductor_core.ir.views import (
    UnknownSize,
    affine_layout,
    canonical_variables,
    is_dense,
    map_of,
    reshape_layout,
    reshape_map,
    span_of,
    to_expr,
    to_exprs,
)
from lampwork_symshape import symbol

CPU = torch.device("cpu")


def apply(view, x: torch.Tensor) -> torch.Tensor:
    """The view of x that a map describes, element by element."""
    sizes = [int(s) for s in view.sizes]
    result = torch.empty(sizes, dtype=x.dtype)
    variables = canonical_variables(view.sizes)
    for point in itertools.product(*map(range, sizes)):
        bindings = dict(zip(variables, point))
        result[point] = x[tuple(i.evaluate(bindings) for i in view.indices)]
    return result


factors = st.lists(st.sampled_from([1, 2, 3, 4]), min_size=0, max_size=4)


def group(sizes: list[int], cuts: list[bool]) -> list[int]:
    result: list[int] = []
    for size, cut in zip(sizes, cuts):
        if cut or not result:
            result.append(size)
        else:
            result[-1] *= size
    return result


@settings(max_examples=150, deadline=None)
@given(
    sizes=factors,
    first=st.lists(st.booleans(), min_size=4, max_size=4),
    second=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_reshape_map_is_reshape(sizes, first, second):
    old, new = group(sizes, first), group(sizes, second)
    x = torch.arange(torch.Size(old).numel()).view(old)
    view = reshape_map(to_exprs(old), to_exprs(new))
    assert torch.equal(apply(view, x), x.reshape(new))


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([2, 3, 4]), min_size=1, max_size=3),
    order=st.randoms(),
    first=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_reshape_layout_is_torchs_view(sizes, order, first):
    dims = list(range(len(sizes)))
    order.shuffle(dims)
    x = torch.empty(sizes).permute(dims)
    new = group(list(x.shape), first)
    layout = reshape_layout(Layout(CPU, x.dtype, to_exprs(x.shape), to_exprs(x.stride())), to_exprs(new))
    try:
        expected = x.view(new).stride()
    except RuntimeError:
        assert layout is None
    else:
        assert layout is not None and tuple(int(s) for s in layout.strides) == expected


def test_split_dimensions_need_no_division():
    view = reshape_map(to_exprs((2, 12)), to_exprs((2, 3, 4)))
    assert all("//" not in str(i) and "%" not in str(i) for i in view.indices)


def test_symbolic_sizes_reshape():
    s = symbol("s0", 2, 1000)
    view = reshape_map((s, to_expr(12)), (s, to_expr(3), to_expr(4)))
    assert str(view.indices[0]) == "i0" and "//" not in str(view.indices[1])
    merged = reshape_map((s, to_expr(4)), (s * 4,))
    assert [str(i) for i in merged.indices] == ["i0 // 4", "i0 % 4"]


def test_affine_maps_become_layouts():
    sizes = to_exprs((4, 6))
    layout = Layout(CPU, torch.float32, sizes, contiguous_strides(sizes))
    found = affine_layout(layout, map_of(to_exprs((6, 2)), lambda v: (v[1] * 2 + 1, v[0])))
    assert found is not None
    assert [int(s) for s in found.strides] == [1, 12] and int(found.offset) == 6
    assert affine_layout(layout, map_of(sizes, lambda v: (3 - v[0], v[1]))) is None
    assert affine_layout(layout, map_of(to_exprs((24,)), lambda v: (v[0] % 4, v[0] // 4))) is None


def test_maps_compose():
    x = torch.arange(24).view(4, 6)
    inner = map_of(to_exprs((6, 4)), lambda v: (v[1], v[0]))
    outer = reshape_map(to_exprs((6, 4)), to_exprs((3, 8)))
    assert torch.equal(apply(outer.after(inner), x), x.t().reshape(3, 8))


@pytest.mark.parametrize(
    ("tensor", "dense"),
    [
        (torch.empty(3, 4).t(), True),
        (torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last), True),
        (torch.empty(3, 4)[:, :2], False),
        (torch.empty(1, 4).expand(3, 4), False),
        (torch.empty(0, 4), True),
    ],
)
def test_density_and_span(tensor, dense):
    sizes, strides = to_exprs(tensor.shape), to_exprs(tensor.stride())
    assert is_dense(sizes, strides) is dense
    span = int(span_of(Layout(CPU, tensor.dtype, sizes, strides)))
    last = sum((a - 1) * b for a, b in zip(tensor.shape, tensor.stride())) + 1
    assert span == (last if tensor.numel() else 0)


def test_foreign_sizes_without_a_value_are_unknown():
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    with FakeTensorMode(shape_env=ShapeEnv()):
        size = torch.nonzero(torch.ones(3)).shape[0]
    with pytest.raises(UnknownSize):
        to_expr(size)
