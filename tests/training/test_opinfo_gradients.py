"""Gradients of operators: all of them as ATen graphs, and a quick part through the lowering.

The session `training` runs every operator through the lowering, with more samples.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from opinfo_gradients import interpreted, lowered, operators, report, session

QUICK = (
    "add", "mul", "div", "sum", "mean", "amax", "softmax", "log_softmax", "var", "cat", "where", "permute", "expand",
    "masked_fill", "gather", "index_select", "scatter_add", "cumsum", "nn.functional.linear", "nn.functional.gelu",
    "nn.functional.layer_norm", "nn.functional.group_norm", "nn.functional.batch_norm", "nn.functional.embedding",
    "nn.functional.cross_entropy", "nn.functional.conv2d", "nn.functional.max_pool2d", "nn.functional.avg_pool2d",
    "nn.functional.silu", "nn.functional.mse_loss", "bmm", "clamp", "pow", "sigmoid", "tanh", "linalg.vector_norm",
)  # fmt: skip
# Without a functional form in plain fake tensors, whose sizes cannot depend on data.
FALL_BACK = {
    "combinations", "corrcoef", "cov", "index_reduce.prod", "linalg.lstsq", "linalg.lstsq.grad_oriented",
    "masked_select", "native_batch_norm", "nn.functional.ctc_loss", "nn.functional.gaussian_nll_loss",
    "scatter_reduce.prod", "tensor_split", "to_sparse", "trace",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_every_operator_as_an_aten_graph(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = list(session(operators(), 1, interpreted, highest=True))
    with capsys.disabled():
        assert report(outcomes) == 0
    assert {o.operator for o in outcomes if o.status == "fell back"} <= FALL_BACK
    assert sum(o.status == "passed" for o in outcomes if o.order == 2) > 490


@pytest.mark.filterwarnings("ignore")
def test_a_quick_part_through_the_lowering(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = operators(QUICK)
    outcomes = list(session(chosen, 1, lowered, highest=True))
    with capsys.disabled():
        assert report(outcomes) == 0
    assert not [o for o in outcomes if o.status == "fell back"]
    assert sum(o.status == "passed" for o in outcomes) > 35
    assert not set(QUICK) - {op.name for op in chosen}
