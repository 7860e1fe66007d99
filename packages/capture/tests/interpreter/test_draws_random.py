"""Whether a graph is known to draw random numbers: only then is the random state kept for a rerun of its frame."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lampwork_capture.graph.operator_effects import draws_random

aten: Any = torch.ops.aten


@pytest.mark.parametrize(
    ("operator", "args", "kwargs", "draws"),
    [
        (aten._scaled_dot_product_flash_attention_for_cpu.default, (1, 2, 3), {}, False),
        (aten._scaled_dot_product_flash_attention_for_cpu.default, (1, 2, 3, 0.0), {}, False),
        (aten._scaled_dot_product_flash_attention_for_cpu.default, (1, 2, 3, 0.5), {}, True),
        (aten._scaled_dot_product_flash_attention_for_cpu.default, (1, 2, 3), {"dropout_p": 0.5}, True),
        (aten.scaled_dot_product_attention.default, (1, 2, 3, None, 0.1), {}, True),
        (aten.bernoulli.default, (1,), {}, True),
        (aten.native_dropout.default, (1, 0.0, True), {}, True),
        (aten.add.Tensor, (1, 2), {}, False),
    ],
)
def testdraws_random(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any], draws: bool) -> None:
    assert draws_random(operator, args, kwargs) is draws
