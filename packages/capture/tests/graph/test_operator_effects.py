"""What operators write to, compared with what they say."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch
from lampwork_capture.graph.operator_effects import written_tensors
from torch.utils._python_dispatch import TorchDispatchMode

CHANNELS = 3
_NUMBERS = {"momentum": 0.5, "exponential_average_factor": 0.5, "eps": 1e-3, "epsilon": 1e-3, "averaging_const": 0.5}
_VALUES = {"impl_index": 0, "count": 4, "quant_min": 0, "quant_max": 255, "ch_axis": 0}
_NOT_OF_CHANNELS = ("input", "self", "grad_out", "grad_output")


def operators():
    """The operators that take running statistics, and say that they write to nothing."""
    for schema in torch._C._jit_get_all_schemas():
        is_given = any(argument.name.startswith("running_") for argument in schema.arguments)
        if schema.name.startswith("aten::") and is_given and not schema.is_mutable:
            packet = getattr(torch.ops.aten, schema.name.removeprefix("aten::"))
            yield getattr(packet, schema.overload_name or "default")


def argument_of(argument):
    if argument.name in _NUMBERS or argument.name in _VALUES:
        return {**_NUMBERS, **_VALUES}[argument.name]
    kind = str(argument.type)
    if kind == "bool":
        return True
    if "List[bool]" in kind:
        return [True] * 3
    if argument.name in _NOT_OF_CHANNELS:
        return torch.arange(18.0).view(CHANNELS, CHANNELS, 2)
    if "observer" in argument.name or "fake_quant" in argument.name:
        return torch.ones(1, dtype=torch.int64)
    if argument.name == "zero_point":
        return torch.zeros(CHANNELS, dtype=torch.int32)
    return torch.full((CHANNELS,), 0.5)


class Written(TorchDispatchMode):
    """Collects what the operators that run are said to write to."""

    def __init__(self):
        super().__init__()
        self.memory = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.memory |= {tensor.data_ptr() for tensor in written_tensors(func, args, kwargs or {})}
        return func(*args, **(kwargs or {}))


# They run on an accelerator only
ELSEWHERE = {"cudnn_batch_norm", "miopen_batch_norm", "batch_norm_gather_stats", "batch_norm_gather_stats_with_counts",
             "cudnn_batch_norm_backward", "miopen_batch_norm_backward"}  # fmt: skip


@pytest.mark.parametrize("operator", list(operators()), ids=str)
def test_every_write_to_running_statistics_is_known(operator):
    arguments = {argument.name: argument_of(argument) for argument in operator._schema.arguments}
    statistics = [name for name in arguments if name.startswith("running_")]
    before = {name: (arguments[name].clone(), arguments[name]._version) for name in statistics}
    name = operator.overloadpacket.__name__
    if name in ELSEWHERE:
        with pytest.raises((NotImplementedError, RuntimeError)):
            operator(**arguments)
        is_written = bool(written_tensors(operator, (), arguments))
        assert is_written is not name.endswith("_backward")
        return
    with Written() as written:
        operator(**arguments)
    for name in statistics:
        tensor = arguments[name]
        is_changed = not torch.equal(tensor, before[name][0]) or tensor._version != before[name][1]
        assert not is_changed or tensor.data_ptr() in written.memory


def test_an_unused_update_of_statistics_stays():
    def function(x, mean, var):
        with torch.no_grad():
            torch.batch_norm_update_stats(x, mean, var, 0.1)
        return mean * 3

    x, means = torch.arange(12.0).view(4, 3), []
    for call in (function, capture.optimize("eager")(function)):
        means.append(torch.zeros(3))
        assert torch.equal(call(x, means[-1], torch.ones(3)), means[-1] * 3)
    assert torch.equal(*means) and means[0].any()
