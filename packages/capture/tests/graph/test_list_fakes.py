"""Fakes of operators on lists: where they are answered without running, the answer is what torch's run gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lampwork_capture.graph.list_fakes import list_fake
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

_SHAPES = ((3,), (2, 4), (), (0, 2))


class _Asked(TorchDispatchMode):
    """Asks `list_fake` about each operator on lists, and runs it."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self.mode = mode
        self.answers: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if func.overloadpacket.__name__.startswith("_foreach_"):
            answer = list_fake(self.mode, func, args, kwargs)
            self.answers.append(answer)
            if answer is not NotImplemented:
                _assert_like(answer, found)
        return found


def _assert_like(answer: Any, found: Any) -> None:
    if found is None:
        assert answer is None
        return
    for mine, other in zip(answer, found, strict=True):
        assert (mine.shape, mine.stride(), mine.dtype, mine.device) == (
            other.shape, other.stride(), other.dtype, other.device
        )  # fmt: skip
        assert mine.untyped_storage()._cdata != other.untyped_storage()._cdata


def _asked(call: Callable[..., Any], *dtypes: torch.dtype, contiguous: bool = True) -> list[Any]:
    with FakeTensorMode() as mode:
        lists = [[torch.empty(shape, dtype=dtype) for shape in _SHAPES] for dtype in dtypes]
        if not contiguous:
            lists[0][1] = torch.empty(4, 2, dtype=dtypes[0]).t()
        with _Asked(mode) as asked:
            call(*lists)
    return asked.answers


F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16


@pytest.mark.parametrize(
    ("call", "dtypes"),
    [
        (lambda a: torch._foreach_add(a, 1), (F32,)),
        (lambda a: torch._foreach_add_(a, 1.5), (F32,)),
        (lambda a, b: torch._foreach_add(a, b, alpha=2.0), (F32, F32)),
        (lambda a, b: torch._foreach_mul_(a, b), (BF16, BF16)),
        (lambda a: torch._foreach_mul(a, [1.0, 2.0, 3.0, 4.0]), (F64,)),
        (lambda a, b: torch._foreach_addcmul(a, b, b, 0.5), (F32, F32)),
        (lambda a, b: torch._foreach_lerp_(a, b, 0.5), (F32, F32)),
        (lambda a: torch._foreach_pow(0.9, a), (F64,)),
        (lambda a: torch._foreach_sqrt(a), (F32,)),
        (lambda a: torch._foreach_div(a[:2], [torch.empty((), dtype=F64)] * 2), (F32,)),
        (lambda a: torch._foreach_add([torch.empty((), dtype=F64)] * 2, [torch.empty(())] * 2), (F32,)),
    ],
)
def test_answers_are_torchs_own(call: Callable[..., Any], dtypes: tuple[torch.dtype, ...]) -> None:
    answers = _asked(call, *dtypes)
    assert answers and NotImplemented not in answers


@pytest.mark.parametrize(
    ("call", "dtypes"),
    [
        (lambda a, b: torch._foreach_add(a, b), (F32, F64)),
        (lambda a: torch._foreach_add(a, 1.5), (torch.int64,)),
        (lambda a: torch._foreach_norm(a), (F32,)),
        (lambda a: torch._foreach_mul(a, torch.empty((), dtype=F64)), (F32,)),
        (lambda a: torch._foreach_mul([torch.empty(())], [torch.empty((), dtype=F64)]), (F32,)),
        (lambda a: torch._foreach_mul([torch.empty(3)], [torch.empty(2, 3)]), (F32,)),
        (lambda a: torch._foreach_add(a, 1j), (F32,)),
    ],
)
def test_what_decides_otherwise_is_run(call: Callable[..., Any], dtypes: tuple[torch.dtype, ...]) -> None:
    assert NotImplemented in _asked(call, *dtypes)


def test_gaps_and_other_orders_are_run() -> None:
    assert _asked(lambda a: torch._foreach_add(a, 1), F32, contiguous=False) == [NotImplemented]
