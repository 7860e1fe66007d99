"""Views: no copy where strides express them, right elements where they do not, eager's strides at the results."""

from __future__ import annotations

import pytest
import torch
from lampwork_inductor_core.ir.buffer import ComputedBuffer, ExternBuffer
from lampwork_inductor_core.ir.loop_body import Load

X = torch.randn(2, 3, 4)
VIEWS = {
    "permute": lambda x: x.permute(2, 0, 1),
    "reshape": lambda x: x.reshape(6, 4),
    "reshape_inner": lambda x: x.reshape(2, 12),
    "split_dims": lambda x: x.view(2, 3, 2, 2),
    "expand": lambda x: x[:, :1].expand(5, 2, 7, 4),
    "slice": lambda x: x[:, 1:, ::2],
    "select": lambda x: x[:, -1],
    "unsqueeze": lambda x: x.unsqueeze(0).unsqueeze(-1),
    "squeeze": lambda x: x[:1].squeeze(),
    "diagonal": lambda x: torch.diagonal(x, 1, 1, 2),
    "unbind": lambda x: list(x.unbind(1)),
    "split": lambda x: list(x.split([1, 2], 1)),
    "chunk": lambda x: list(x.chunk(2, -1)),
    "as_strided": lambda x: x.as_strided((2, 2), (5, 1), 3),
    "t": lambda x: x[0].t(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_inputs_are_free(lowers_as_eager, name):
    lowered = lowers_as_eager(VIEWS[name], X)
    assert not any(isinstance(b, (ComputedBuffer, ExternBuffer)) for b in lowered.buffers)


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_expressions(lowers_as_eager, name):
    def function(x):
        results = VIEWS[name](x * 2 + 1)
        return [r + 1 for r in results] if isinstance(results, list) else results + 1

    lowered = lowers_as_eager(function, X)
    assert not any(isinstance(b, ExternBuffer) for b in lowered.buffers)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.flip(0, 2),
        lambda x: x.roll((1, -2), (0, 2)),
        lambda x: x.repeat(2, 1, 3),
        lambda x: x.transpose(0, 2).reshape(12, 2),
        lambda x: x.transpose(0, 1).reshape(-1) + 1,
        lambda x: x.permute(2, 1, 0).contiguous().view(4, 6),
        lambda x: x.transpose(1, 2).clone().flip(1)[:, 1:].sum(-1),
        lambda x: torch.permute_copy(x, (1, 0, 2)),
    ],
)
def test_what_moves_elements(lowers_as_eager, function):
    lowered = lowers_as_eager(function, X)
    assert not any(isinstance(b, ExternBuffer) for b in lowered.buffers)


def test_views_of_views_are_one_affine_index(lowers_as_eager):
    lowered = lowers_as_eager(
        lambda x: x.view(4, 6, 8).permute(1, 0, 2).reshape(6, 32).t()[::2].unsqueeze(1) + 1, torch.randn(192)
    )
    (buffer,) = (b for b in lowered.buffers if isinstance(b, ComputedBuffer))
    (load,) = buffer.loops.body.reads()
    assert isinstance(load, Load)
    # i0 walks 16 pairs of a merged (4, 8): the only division that remains
    assert str(load.index).count("//") <= 1


def test_attention_views_stay_affine(lowers_as_eager):
    lowered = lowers_as_eager(lambda x: x.view(2, 5, 3, 4).transpose(1, 2) * 2, torch.randn(2, 5, 12))
    (buffer,) = (b for b in lowered.buffers if isinstance(b, ComputedBuffer))
    (load,) = buffer.loops.body.reads()
    assert "//" not in str(load.index) and "%" not in str(load.index)


def test_a_copy_is_not_the_input(lowers_as_eager):
    lowered = lowers_as_eager(lambda x: [x.clone(), x], X)
    assert lowered.outputs[0].buffer != lowered.outputs[1].buffer == "x_1"


def test_channels_last_strides_are_kept(lowers_as_eager):
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    lowered = lowers_as_eager(lambda x: torch.relu(x) + 1, x)
    assert [int(s) for s in lowered.outputs[0].layout.strides] == list(x.stride())


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3), ()])
def test_empty_and_zero_dimensional(lowers_as_eager, shape):
    x = torch.randn(shape)
    lowers_as_eager(lambda x: [x + 1, x.reshape(-1), x.unsqueeze(0).expand(3, *shape) * 2], x)
