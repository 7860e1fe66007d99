"""`disabled_passes` and `fuse_with_reductions`: one optimisation off, everything else as ever."""

from __future__ import annotations

import torch
from lampwork_inductor_core import Config
from lampwork_inductor_core.config import ScheduleConfig
from lampwork_inductor_core.passes.pipeline import PASSES, run_passes

aten = torch.ops.aten
SDPA = aten.scaled_dot_product_attention.default


def attention(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2) * 0.5, -1) @ v


def test_a_pass_that_is_named_does_not_run(rewritten, targets):
    q, k, v = (torch.randn(2, 3, 5, 4) for _ in range(3))
    assert SDPA in targets(rewritten(run_passes, attention, q, k, v))
    kept = targets(rewritten(run_passes, attention, q, k, v, disabled_passes=("recognise_attention",)))
    assert SDPA not in kept and aten.bmm.default in kept
    assert "recognise_attention" in dict(PASSES)


def test_pointwise_work_stays_out_of_the_kernels_of_reductions(compile_interpreted):
    def kernels_of(config: Config) -> int:
        x = torch.randn(12, 40)
        compiled, device = compile_interpreted(lambda x: torch.softmax(x * 2, -1) + 1, [x], config=config)
        torch.testing.assert_close(compiled([x])[0], torch.softmax(x * 2, -1) + 1)
        return len(device.generated)

    together = kernels_of(Config())
    apart = kernels_of(Config(schedule=ScheduleConfig(fuse_with_reductions=False)))
    assert together == 1 < apart
