"""Every test leaves torch's state and the hook as it found them; one that does not fails itself, not a later one."""

from __future__ import annotations

import ctypes
import os
import sys

os.environ["LAMPWORK_REMEMBER"] = "0"  # what a test captures depends on nothing that ran before

import pytest
import torch

_current_interpreter = ctypes.pythonapi.PyInterpreterState_Get
_current_interpreter.restype = ctypes.c_void_p
_evaluator_of = ctypes.pythonapi._PyInterpreterState_GetEvalFrameFunc
_evaluator_of.argtypes, _evaluator_of.restype = [ctypes.c_void_p], ctypes.c_void_p


def _state():
    return {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "default dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "modes": torch._C._len_torch_dispatch_stack() + torch._C._len_torch_function_stack(),
        "transforms": torch._C._functorch.peek_interpreter_stack() is None,
        "trace function": sys.gettrace(),
        "frame evaluator": _evaluator_of(_current_interpreter()),
    }


@pytest.fixture(autouse=True)
def state_is_left_as_found():
    before = _state()
    yield
    after = _state()
    torch._C._set_grad_enabled(before["grad mode"])
    assert after == before
