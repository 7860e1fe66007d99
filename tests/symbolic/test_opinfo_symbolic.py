"""Operators with symbolic sizes: a quick part of the session `opinfo_symbolic`, which runs them all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from opinfo_symbolic import operators, report, session

QUICK = (
    "add", "mul", "sum", "mean", "amax", "argmax", "softmax", "log_softmax", "var", "std", "cat", "stack", "where",
    "permute", "transpose_copy", "tril", "masked_fill", "expand", "repeat", "roll", "flip", "slice_scatter", "gather",
    "index_select", "split_with_sizes_copy", "nn.functional.linear", "nn.functional.layer_norm", "nn.functional.pad",
    "nn.functional.group_norm", "nn.functional.embedding", "nn.functional.scaled_dot_product_attention", "bmm",
    "view_copy",
    "nn.functional.conv2d", "nn.functional.batch_norm", "nn.functional.mse_loss", "linalg.vector_norm", "clamp",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lower", [2, 1])
def test_quick_samples(lower: int) -> None:
    outcomes = session([op for op in operators() if op.name in QUICK], count=1, lower=lower, batch=len(QUICK))
    assert report(outcomes) == 0
    assert sum(o.status == "passed" for o in outcomes) > 40
    assert sum(o.other_sizes for o in outcomes) > 30


def test_quick_list_names_operators() -> None:
    names = {op.name for op in operators()}
    assert not [name for name in QUICK if name not in names]
