"""Whether a write reads the memory it writes: two views of one tensor that meet without being the same view.

Eager refuses such a write or lets its result depend on the order of the elements; a functional graph would read the old
values first. `functionalize` asks before it runs a writing node. Invariant: an answer of "no" is certain for the traced
sizes; where the sizes are not known the answer is "yes".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import SymInt, Tensor
from torch.utils._pytree import tree_leaves

from . import torch_layer
from .known_sizes import known_equal

_IN_PLACE = frozenset(
    {
        f"i{name}"
        for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")
    }
)
_STEPS = 2000  # of the search for a common element; beyond it the answer is "yes"


def overlapping_write(name: str, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether the torch function or method `name` writes to a view that overlaps a tensor it reads in part."""
    target = _target(name, args, kwargs)
    if target is None:
        return False
    sources = [*args[1:], *(value for key, value in kwargs.items() if key != "out")]
    if target is kwargs.get("out"):
        sources = [*args, *sources]
    return any(
        isinstance(source, Tensor)
        and source is not target
        and torch_layer.is_functional(source)
        and torch_layer.storage_address(source) == torch_layer.storage_address(target)
        and overlap_in_part(target, source)
        for source in sources
    )


def resizes_what_it_shares(
    before: Sequence[tuple[Tensor, tuple[Any, ...]]], described: Any, args: Any, kwargs: Mapping[str, Any]
) -> bool:
    """Whether a function that ran gave an `out` another size which it read as well, or which is part of other memory.

    `before`: what its `outputs` were. `described`: its result in the capture; a functional view keeps its size.
    """
    found = [leaf for leaf in tree_leaves(described) if isinstance(leaf, Tensor)]
    for (out, sizes), result in zip(before, found):
        if not torch_layer.is_functional_base(out) and not known_equal(result.shape, sizes):
            return True
    resized = {torch_layer.storage_address(out) for out, sizes in before if not known_equal(out.shape, sizes)}
    read = tree_leaves((args, [value for key, value in kwargs.items() if key != "out"])) if resized else ()
    return any(_is_functional(leaf) and torch_layer.storage_address(leaf) in resized for leaf in read)


def outputs(kwargs: Mapping[str, Any]) -> list[tuple[Tensor, tuple[Any, ...]]]:
    """The tensors that a function shall write to as its `out`, and their sizes."""
    return [(out, tuple(out.shape)) for out in tree_leaves(kwargs.get("out")) if _is_functional(out)]


def _is_functional(value: Any) -> bool:
    return isinstance(value, Tensor) and torch_layer.is_functional(value)


def _target(name: str, args: Any, kwargs: Mapping[str, Any]) -> Tensor | None:
    target: Any = kwargs.get("out")
    if target is None and args and isinstance(args[0], Tensor):
        if name in ("setitem", "__setitem__"):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            read = isinstance(args[2], Tensor)
            basic = all(i is None or i is Ellipsis or type(i) is int or isinstance(i, slice) for i in index)
            target = args[0][args[1]] if basic and read else None
        elif (
            name in _IN_PLACE
            or (name.endswith("_") and not name.endswith("__"))
            or (name.startswith("__i") and name[2:-2] in _IN_PLACE)
        ):
            target = args[0]
    return target if isinstance(target, Tensor) and torch_layer.is_functional(target) else None


def overlap_in_part(a: Tensor, b: Tensor) -> bool:
    """Whether two views of one memory have an element in common, unless they are the very same view."""
    if a.dtype != b.dtype:
        return True
    left, right = _numbers(a), _numbers(b)
    if left is None or right is None:  # of data: the same view is all that can be told
        return not known_equal(*((t.storage_offset(), *t.shape, *t.stride()) for t in (a, b)))
    if left == right or 0 in left[1] or 0 in right[1]:
        return False
    # A common element: sum(i * stride of a) - sum(j * stride of b) = difference of the offsets.
    ranges: dict[int, tuple[int, int]] = {}
    for size, stride in zip(left[1], left[2]):
        if size > 1 and stride:
            low, high = ranges.get(stride, (0, 0))
            ranges[stride] = (low, high + size - 1)
    for size, stride in zip(right[1], right[2]):
        if size > 1 and stride:
            low, high = ranges.get(stride, (0, 0))
            ranges[stride] = (low - size + 1, high)
    return _reachable(right[0] - left[0], sorted(ranges.items(), reverse=True))


def _reachable(difference: int, ranges: list[tuple[int, tuple[int, int]]]) -> bool:
    """Whether some choice of k in each range makes sum(k * stride) the difference."""
    rests = [(0, 0)]  # what the strides from here on can make, at least and at most
    for stride, (low, high) in reversed(ranges):
        rests.append((rests[-1][0] + low * stride, rests[-1][1] + high * stride))
    rests.reverse()
    open_ends = [(difference, 0)]
    for _ in range(_STEPS):
        if not open_ends:
            return False
        rest, depth = open_ends.pop()
        if depth == len(ranges):
            if rest == 0:
                return True
            continue
        stride, (low, high) = ranges[depth]
        least, most = rests[depth + 1]
        first, last = max(low, -((most - rest) // stride)), min(high, (rest - least) // stride)
        if last - first > _STEPS:
            return True
        open_ends.extend((rest - k * stride, depth + 1) for k in range(first, last + 1))
    return True


def _numbers(t: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
    numbers = [_number(n) for n in (t.storage_offset(), *t.shape, *t.stride())]
    if None in numbers:
        return None
    known = [n for n in numbers if n is not None]
    return known[0], tuple(known[1 : 1 + t.dim()]), tuple(known[1 + t.dim() :])


def _number(value: Any) -> int | None:
    """The value, for a symbolic size the one that it was traced with."""
    if isinstance(value, SymInt):
        hint = getattr(value.node, "hint", None)
        return hint if type(hint) is int else None
    return int(value)


__all__ = ["outputs", "overlap_in_part", "overlapping_write", "resizes_what_it_shares"]
