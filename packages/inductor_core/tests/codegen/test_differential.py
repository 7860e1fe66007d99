"""Random programs through schedule, kernels, memory plan and wrapper, on the interpreted device, against eager."""

from __future__ import annotations

import random

import pytest
import torch
from lampwork_inductor_core.config import Config

SIZES = (2, 3, 4)


def _unary(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    return rng.choice(
        [
            lambda v: v * 1.5 + 0.25,
            lambda v: torch.tanh(v),
            lambda v: torch.relu(v),
            lambda v: torch.sigmoid(v) - 0.5,
            lambda v: torch.where(v > 0, v, -0.1 * v),
            lambda v: v.to(torch.float64).to(torch.float32),
        ]
    )(x)


def _move(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """A view or copy of other shape or strides."""
    choice = rng.randrange(8)
    if choice == 0 and x.dim() > 1:
        return x.transpose(0, -1)
    if choice == 1 and x.dim() > 1:
        return x.permute(*rng.sample(range(x.dim()), x.dim()))
    if choice == 2:
        return x.reshape(-1)
    if choice == 3 and x.dim() > 1:
        return x.flatten(0, 1)
    if choice == 4 and x.dim() > 0 and x.size(-1) > 1:
        return x[..., 1:]
    if choice == 5:
        return x.unsqueeze(rng.randrange(x.dim() + 1))
    if choice == 6 and x.dim() > 0 and x.size(0) % 2 == 0:
        return x.reshape(2, x.size(0) // 2, *x.shape[1:])
    return x.flip(0) if x.dim() > 0 else x


def _reduce(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    if x.dim() == 0:
        return x
    dims = rng.sample(range(x.dim()), rng.randrange(1, x.dim() + 1))
    keep = rng.random() < 0.6
    return rng.choice(
        [
            lambda: x.sum(dims, keepdim=keep),
            lambda: x.mean(dims, keepdim=keep),
            lambda: x.amax(dims, keepdim=keep),
            lambda: torch.softmax(x, dims[0]),
            lambda: torch.argmax(x, dims[0], keepdim=keep).to(torch.float32),
            lambda: torch.nn.functional.layer_norm(x, x.shape[-1:]),
            lambda: x - x.mean(dims, keepdim=True),
        ]
    )()


def _combine(x: torch.Tensor, y: torch.Tensor, rng: random.Random) -> torch.Tensor | None:
    try:
        shape = torch.broadcast_shapes(x.shape, y.shape)
    except RuntimeError:
        return None
    if shape.numel() > 512:
        return None
    return rng.choice([torch.add, torch.mul, torch.maximum, torch.sub])(x, y)


def _odd(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Scans, concatenations, padding, gathers, other dtypes: what fuses rarely or under conditions."""
    if x.dim() == 0:
        return x.to(torch.int32).to(torch.float32)
    dim = rng.randrange(x.dim())
    size = x.size(dim)
    picked = torch.tensor([rng.randrange(-size, size) for _ in range(3)])
    return rng.choice(
        [
            lambda: torch.cumsum(x, dim),
            lambda: torch.cat([x, x * 2], dim),
            lambda: torch.nn.functional.pad(x, (1, 2), value=0.5),
            lambda: x.index_select(dim, picked % size),
            lambda: x[picked] if dim == 0 else x.gather(dim, x.argsort(dim)),
            lambda: x.to(torch.bfloat16).mul(1.5).to(torch.float32),
            lambda: (x * 4).to(torch.int64).remainder(3).to(torch.float32),
            lambda: (x > 0.1).logical_and(x < 1.0).to(torch.float32),
            lambda: x.index_add(dim, (picked % size)[:1], x.narrow(dim, 0, 1)),
            lambda: torch.where(x.amax(dim, keepdim=True) == x, x, torch.zeros(())),
            lambda: x.expand(2, *x.shape) if x.numel() < 128 else x,
            lambda: torch.roll(x, 1, dim),
        ]
    )()


def program_of(seed: int, steps: int = 14, odd: bool = False):
    """A deterministic random program: the same operations on every call."""

    def program(*inputs: torch.Tensor):
        rng = random.Random(seed)
        values = list(inputs)
        for _ in range(steps):
            x = rng.choice(values[-6:])
            kind = rng.randrange(10)
            made: torch.Tensor | None
            if odd and rng.random() < 0.35:
                made = _odd(x, rng)
            elif kind < 3:
                made = _unary(x, rng)
            elif kind < 5:
                made = _move(x, rng)
            elif kind < 7:
                made = _reduce(x, rng)
            else:
                made = None
                for y in rng.sample(values, len(values)):
                    made = _combine(x, y, rng)
                    if made is not None:
                        break
            if made is not None and made.numel() > 0:
                values.append(made * 1.0)
        return tuple(values[len(inputs) :][-5:])

    return program


def inputs_of(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rng = random.Random(seed)
    shapes = [(2, 3, 4), (rng.choice(SIZES), 4), (4,), (2, 4, 3)]
    made = [torch.randn(shape, generator=generator) for shape in shapes]
    made[3] = made[3].transpose(1, 2)  # not contiguous
    return made


@pytest.mark.parametrize("odd", [False, True], ids=["plain", "odd"])
@pytest.mark.parametrize("seed", range(40))
def test_random_program(seed, odd, compile_interpreted):
    program, inputs = program_of(seed, odd=odd), inputs_of(seed)
    kept = [x.clone() for x in inputs]
    expected = program(*inputs)
    config = Config(verify=True, lower_scatter=True)
    compiled, _ = compile_interpreted(program, inputs, without_locals=seed % 3 == 0, config=config)
    for call in range(2):
        results = compiled(*inputs)
        assert len(results) == len(expected)
        for position, (mine, eager) in enumerate(zip(results, expected, strict=True)):
            torch.testing.assert_close(
                mine, eager, rtol=1e-3, atol=1e-4, msg=lambda m: f"output {position}, call {call}: {m}"
            )
            assert mine.shape == eager.shape
    for before, after in zip(kept, inputs, strict=True):
        assert torch.equal(before, after), "an input was written"


def test_outputs_do_not_share_memory(compile_interpreted):
    """Overwriting one output changes neither another nor an input."""
    x = torch.randn(4, 8)
    compiled, _ = compile_interpreted(lambda v: (v + 1, (v + 1).exp(), v * 2), [x])
    first = compiled(x)
    second = [t.clone() for t in first]
    first[0].zero_()
    assert torch.equal(first[1], second[1]) and torch.equal(first[2], second[2])
    assert not torch.equal(x, torch.zeros_like(x))
