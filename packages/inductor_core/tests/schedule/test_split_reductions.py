"""Reductions in parts: what a device may ask for, and that nothing but the order of combination changes."""

from __future__ import annotations

import pytest
import torch
from lampwork_inductor_core import CompileOptions, compile_graph
from lampwork_inductor_core.config import Config, ScheduleConfig
from lampwork_inductor_core.schedule.split_reductions import ReductionShape


def _compiled(program, inputs, interpreted, aten, parts):
    asked: list[ReductionShape] = []

    def split(shape: ReductionShape) -> int:
        asked.append(shape)
        return parts

    device = interpreted()
    device.split_reduction = split
    options = CompileOptions(backends={"cpu": device}, config=Config(verify=True), keep_artifacts=True)
    return compile_graph(aten(program, *inputs), inputs, options=options), device, asked


def columns(x):
    return x.sum(0), x.double().prod(0), x.amax(0)


def rows(x):
    return x.sum(-1), (x > 0).any(-1), (x > -9).all(-1), x.amin(-1)


def everything(x):
    return x.sum(), x.mean(), x.amax()


def statistics(x):
    return torch.var_mean(x, (0, 2, 3))


def positions(x):
    return x.argmax(0), x.sum(0)


@pytest.mark.parametrize("parts", [2, 3, 5, 64])
@pytest.mark.parametrize(
    ("program", "sizes"),
    [
        (columns, (24, 5)), (columns, (23, 5)), (rows, (3, 30)), (rows, (1, 31)), (everything, (12, 7)),
        (everything, (91,)), (statistics, (6, 4, 5, 3)), (positions, (20, 3)),
    ],
)  # fmt: skip
def test_parts_combine_to_the_whole(program, sizes, parts, interpreted, aten):
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(1))
    compiled, device, asked = _compiled(program, (x,), interpreted, aten, parts)
    plain, other, _ = _compiled(program, (x,), interpreted, aten, 1)
    for mine, eager in zip(compiled(x), program(x), strict=True):
        torch.testing.assert_close(mine, eager)
    for mine, eager in zip(plain(x), program(x), strict=True):
        torch.testing.assert_close(mine, eager)
    assert asked and len(device.generated) > len(other.generated)


def test_what_a_device_decides_by(interpreted, aten):
    x = torch.zeros(24, 5)
    assert _compiled(lambda x: [x.sum(0)], (x,), interpreted, aten, 1)[2] == [ReductionShape(5, 24, 4, False)]
    assert _compiled(lambda x: [x.sum(1)], (x,), interpreted, aten, 1)[2] == [ReductionShape(24, 5, 4, True)]
    half = x.bfloat16()
    assert _compiled(lambda x: [x.sum()], (half,), interpreted, aten, 1)[2] == [ReductionShape(1, 120, 2, True)]


def test_parts_are_stretches_of_memory(interpreted, aten):
    """The slowest dimension is cut, and an uneven rest is masked."""
    x = torch.randn(10, 6)
    compiled, device, _ = _compiled(lambda x: [x.sum()], (x,), interpreted, aten, 5)
    first = device.generated[0]
    assert [int(d.size) for d in first.outer] == [5] and [int(d.size) for d in first.inner] == [12]
    torch.testing.assert_close(compiled(x)[0], x.sum())
    x = torch.randn(23, 6)
    compiled, device, _ = _compiled(lambda x: [x.sum(0)], (x,), interpreted, aten, 4)
    assert " if " in compiled.artifacts.stages["kernels"]
    torch.testing.assert_close(compiled(x)[0], x.sum(0))


def test_extrema_are_split_only_where_parts_are_even(interpreted, aten):
    x = torch.randn(23, 6)
    compiled, device, _ = _compiled(lambda x: [x.amax(0)], (x,), interpreted, aten, 4)
    assert len(device.generated) == 1
    torch.testing.assert_close(compiled(x)[0], x.amax(0))


def test_a_device_tunes_the_schedule(interpreted, aten):
    """Rows that cross between loops: kept in a local row, or computed again as a device wants."""

    def program(x):
        return [torch.softmax(x, -1)]

    x = torch.randn(4, 16)
    found = []
    for tuned in (ScheduleConfig(), ScheduleConfig(local_row_bytes=4)):
        device = interpreted()
        device.tune_schedule = lambda config, tuned=tuned: tuned
        options = CompileOptions(backends={"cpu": device}, config=Config(verify=True))
        compiled = compile_graph(aten(program, x), (x,), options=options)
        torch.testing.assert_close(compiled(x)[0], torch.softmax(x, -1))
        found.append(len(device.generated[0].locals))
    assert found == [1, 0]


def test_rows_of_one_and_columns_of_another_stay_apart(interpreted, aten):
    """Their space is common by count alone: in it one of them would step through memory by whole rows."""

    def program(x, y):
        return [x.sum(0), x * y]

    x, y = torch.randn(512, 256), torch.randn(512, 256)
    compiled, device, _ = _compiled(program, (x, y), interpreted, aten, 1)
    assert len(device.generated) == 2
    torch.testing.assert_close(compiled(x, y)[0], x.sum(0))
    torch.testing.assert_close(compiled(x, y)[1], x * y)


def test_few_gathered_elements_are_computed_where_they_are_read(interpreted, aten):
    def program(x, rows):
        return [torch.log_softmax(x, -1).gather(1, rows)]

    x, rows = torch.randn(6, 40), torch.tensor([[3], [39], [0], [7], [7], [21]])
    compiled, device, _ = _compiled(program, (x, rows), interpreted, aten, 1)
    torch.testing.assert_close(compiled(x, rows)[0], program(x, rows)[0])
    written = [a for k in device.generated for a in k.arguments if a.name.startswith("out")]
    assert max(int(a.element_count) for a in written) == 6
    with pytest.raises(Exception, match="out of bounds|index"):
        compiled(x, torch.full((6, 1), 40))
