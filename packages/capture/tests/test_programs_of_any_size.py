"""Programs of the kind that compilers are reported to over-specialize: each is captured once for all sizes, 1 included.

With `dynamic=True` one capture serves every size of batch and length; without it there is one for the first sizes and
one for all. Results are those of eager, bit by bit.
"""

from __future__ import annotations

import lampwork_capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.config import config_from_environment
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.optimize import resolve_backend, shared_policy, with_callback

WIDTH = 8
TABLE = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(0))
KERNEL = torch.randn(WIDTH, WIDTH, 3, generator=torch.Generator().manual_seed(1))


def upsampled(x):
    """An image of twice the size, and back to the size that it had."""
    larger = F.interpolate(x[:, None], scale_factor=2, mode="nearest")
    return F.interpolate(larger, size=x.shape[1:], mode="bilinear", align_corners=False).squeeze(1)


def resized_table(x):
    """A table of positions for one length, resized to that of the input."""
    table = F.interpolate(TABLE.t()[None], size=x.shape[1], mode="linear", align_corners=True)
    return x + table.transpose(1, 2)


def shifted_windows(x):
    """Windows of 4 positions over a length padded to a multiple, shifted by half a window."""
    b, s, d = x.shape
    padded = F.pad(x, (0, 0, 0, (4 - s % 4) % 4))
    rolled = torch.roll(padded, -2, dims=1).view(b, padded.shape[1] // 4, 4, d)
    mixed = rolled.softmax(2).reshape(b, -1, d)
    return torch.roll(mixed, 2, dims=1)[:, :s]


def rolled_by_half(x):
    return x - x.roll(x.size(1) // 2, 1) + x.flip(1)


def overlapping(x):
    """Overlapping pieces of three, of a length that is at least that."""
    return F.pad(x, (0, 0, 1, 1)).unfold(1, 3, 1).mean(-1)


def patches(x):
    """Patches of an image of any height, as a sequence."""
    return F.unfold(x[:, None], (1, 4), stride=(1, 4)).transpose(1, 2).contiguous().view(x.shape[0], -1, 4)


def one_hot_counts(x, tokens):
    return F.one_hot(tokens, 11).sum(1) / tokens.shape[1]


def offset_positions(x, tokens):
    """Positions that begin behind the padding index, and count only what is not padding."""
    mask = tokens.ne(1).long()
    return F.embedding(mask.cumsum(1) * mask + 1, TABLE, padding_idx=1) + x


def pooled(x):
    y = x.transpose(1, 2)
    return torch.cat([F.adaptive_avg_pool1d(y, 1), F.adaptive_max_pool1d(y, 1), y.mean(-1, keepdim=True)], 1).flatten(1)


def strided_pool(x):
    y = F.avg_pool1d(x.transpose(1, 2), 3, stride=2, padding=1)
    return F.max_pool1d(y, 2, ceil_mode=True).transpose(1, 2)


def strided_convolution(x):
    return F.conv1d(x.transpose(1, 2), KERNEL, stride=2, padding=1).transpose(1, 2).relu()


def split_by_size(x):
    query, key, value = x.split([4, 2, 2], dim=-1)
    return query.sum(-1, keepdim=True) * key + value


def split_at_half(x):
    n = x.size(1) // 2 + 1
    first, second = torch.split(F.pad(x, (0, 0, 0, 2)), [n, x.size(1) + 2 - n], dim=1)
    return first.mean(1) - second.sum(1)


def repeated_heads(x):
    """Keys of fewer heads, repeated for those of the queries in two ways."""
    b, s, _ = x.shape
    keys = x.view(b, s, 2, 4).transpose(1, 2)
    expanded = keys[:, :, None].expand(b, 2, 3, s, 4).reshape(b, 6, s, 4)
    return torch.repeat_interleave(keys, 3, dim=1) - expanded


def contracted(x):
    scores = torch.einsum("bid,bjd->bij", x, x) / x.shape[1] ** 0.5
    return torch.einsum("bij,bjd->bid", scores.softmax(-1), x)


def class_token(x):
    """A token of its own for each of the batch, in front."""
    return torch.cat([TABLE[:1].expand(x.shape[0], -1, -1), x], 1) + TABLE[: x.shape[1] + 1]


def growing_list(x):
    found, current = [], x
    for step in range(3):
        current = current * 0.5 + current.mean(1, keepdim=True)
        found.append(current[:, : x.shape[1] // (step + 1) + 1])
    return torch.cat(found, dim=1)


def growing_history(x):
    history = x[:, :0]
    for _ in range(4):
        history = torch.cat([history, x.sum(1, keepdim=True), history.mean(1, keepdim=True).nan_to_num()], 1)
    return history


def rotary(x):
    s, d = x.shape[1:]
    angles = torch.outer(torch.arange(s).float(), 1.0 / 100 ** (torch.arange(0, d, 2).float() / d))
    angles = torch.cat([angles, angles], -1)
    first, second = x[..., : d // 2], x[..., d // 2 :]
    return x * angles.cos() + torch.cat([-second, first], -1) * angles.sin()


def relative_bias(x):
    s = x.shape[1]
    distance = torch.arange(s)[None] - torch.arange(s)[:, None]
    bias = TABLE[distance.clamp(-5, 5) + 5]
    return torch.einsum("bid,ijd->bij", x, bias)


def local_mask(x):
    """Attention to the last three, for the last positions of a longer sequence."""
    s = x.shape[1]
    keys = torch.cat([x[:, :1], x], 1)
    offset = keys.shape[1] - s
    rows, columns = torch.arange(s)[:, None] + offset, torch.arange(keys.shape[1])[None]
    allowed = (columns <= rows) & (rows - columns < 3)
    mask = torch.zeros(s, keys.shape[1]).masked_fill(~allowed, float("-inf"))
    return F.scaled_dot_product_attention(x[:, None], keys[:, None], keys[:, None], attn_mask=mask)


def left_over(x):
    return x[:, -1] + x[:, ::2].sum(1) - x[:, x.shape[1] // 2 :].amax(1)


def shifted_loss(x, tokens):
    logits = x @ TABLE[:11].t()
    return F.cross_entropy(logits.view(-1, logits.size(-1)), tokens.view(-1)) + F.nll_loss(
        logits.log_softmax(-1).flatten(0, 1), tokens.flatten(), reduction="sum"
    )


def group_norm(x):
    b = x.shape[0]
    groups = x.transpose(1, 2).reshape(b, 2, -1)
    normal = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    return normal.view(b, x.shape[2], -1).transpose(1, 2)


def best_half(x):
    """The better half of the positions, by what a gather of them sums to."""
    k = x.shape[1] // 2 + 1
    found = x.sum(-1).topk(k, dim=1).indices
    return x.gather(1, found[..., None].expand(-1, -1, x.shape[2])).sum(1)


def padded_together(x, tokens):
    """A ragged batch in a list: each a length of its own."""
    rows = [x[0], x[0, : x.shape[1] // 2 + 1], x[-1]]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(padded.shape[1])[None] < lengths[:, None]
    return (padded * mask[..., None]).sum(1) / lengths[:, None]


def nested_list(x):
    """Each row of a batch by itself."""
    return torch.stack([part.sum(0) for part in (x[0], x[-1])]) + torch.stack(list(x.unbind(2))).sum(0).mean()


def halves_of_image(x):
    """Pixels into channels and back."""
    image = F.pad(x, (0, 0, 0, x.shape[1] % 2))[:, None]
    return F.pixel_shuffle(F.pixel_unshuffle(image, 2).relu(), 2).squeeze(1)[:, : x.shape[1]]


def described(x):
    """What goes into Python on the way: numbers in a dict, a shape that is unpacked."""
    sizes = {"batch": x.shape[0], "length": x.shape[1]}
    b, *rest = x.shape
    return x.reshape(sizes["batch"] * sizes["length"], -1).sum(0) / max(sizes["length"], 2), (b, rest[-1])


OF_TOKENS = [one_hot_counts, offset_positions, shifted_loss, padded_together]
PROGRAMS = [
    upsampled, resized_table, shifted_windows, rolled_by_half, overlapping, patches, pooled, strided_pool,
    strided_convolution, split_by_size, split_at_half, repeated_heads, contracted, class_token, growing_list,
    growing_history, rotary, relative_bias, local_mask, left_over, group_norm, best_half, nested_list, halves_of_image,
    described, *OF_TOKENS,
]  # fmt: skip
SWEEP = [(2, 16), (3, 20), (1, 16), (4, 1), (1, 1), (5, 7), (2, 3), (1, 8), (6, 33), (3, 2)]


def inputs_of(program, batch, length):
    x = torch.randn(batch, length, WIDTH)
    return (x, torch.randint(0, 11, (batch, length))) if program in OF_TOKENS else (x,)


def check(program, sweep, most, **options):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    optimized = lampwork_capture.optimize(backend, fullgraph=True, **options)(program)
    for sizes in sweep:
        args = inputs_of(program, *sizes)
        torch.testing.assert_close(optimized(*args), program(*args), rtol=0, atol=0)
    assert len(graphs) <= most


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_one_capture_for_all_sizes(program, dynamic):
    check(program, SWEEP, 1 if dynamic else 2, dynamic=dynamic)


def packed_rows(x, lengths):
    """A ragged batch in one tensor, and the lengths of its rows in a list of ints."""
    longest = max(lengths)
    rows = [F.pad(row, (0, 0, 0, longest - len(row))) for row in x.split(lengths)]
    return torch.stack(rows).sum(1) / torch.tensor(lengths)[:, None]


def positions_so_far(x, past):
    """Positions behind those of earlier calls, which a Python int counts."""
    positions = torch.arange(past, past + x.shape[1])
    return x + TABLE[positions % len(TABLE)], past + x.shape[1]


@pytest.mark.parametrize("dynamic", [None, True])
def test_ints_that_vary_are_symbols_in_the_second_capture(dynamic):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    optimized = lampwork_capture.optimize(backend, fullgraph=True, dynamic=dynamic)(packed_rows)
    for lengths in ([4, 2, 3], [5, 1, 7], [1, 1, 1], [2, 9, 4], [8, 8, 8]):
        x = torch.randn(sum(lengths), WIDTH)
        torch.testing.assert_close(optimized(x, lengths), packed_rows(x, lengths), rtol=0, atol=0)
    assert len(graphs) <= 2
    graphs.clear()
    optimized = lampwork_capture.optimize(backend, fullgraph=True, dynamic=dynamic)(positions_so_far)
    mine = theirs = 0
    for length in (5, 2, 1, 3, 1):
        x = torch.randn(2, length, WIDTH)
        (actual, mine), (expected, theirs) = optimized(x, mine), positions_so_far(x, theirs)
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
        assert mine == theirs
    assert len(graphs) <= 2


def loop_over_positions(x):
    total = torch.zeros(x.shape[0], x.shape[2])
    for position in range(x.shape[1]):
        total = total * 0.5 + x[:, position]
    return total


def pieces(x):
    return torch.stack([piece.mean(1) for piece in x.split(3, dim=1)])


def by_length(x):
    if x.shape[1] > 8:
        return x[:, :8]
    return x * 2


@pytest.mark.parametrize(
    ("program", "line", "advice"),
    [(loop_over_positions, 2, "make it a tensor"), (pieces, 1, "outside the compiled function"),
     (by_length, 1, "outside the compiled function")],
    ids=lambda given: getattr(given, "__name__", ""),
)  # fmt: skip
def test_a_program_that_depends_on_a_size_is_told_where(program, line, advice):
    name, compiler = resolve_backend("eager")
    config = config_from_environment(fullgraph=True, dynamic=True)
    callback = FrameCallback(compiler, name, config, shared_policy())
    optimized = with_callback(program, callback)
    for length in (6, 9, 14):
        x = torch.randn(2, length, WIDTH)
        torch.testing.assert_close(optimized(x), program(x), rtol=0, atol=0)
    for missed in callback.cache.recompilations:
        assert {guard.user_line.line for guard in missed.failed} == {program.__code__.co_firstlineno + line}
        assert all("x.size(1)" in guard.words and advice in guard.hint for guard in missed.failed)
    assert callback.cache.recompilations
