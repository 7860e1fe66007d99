"""The registries of models: no callable and no type has two, and no file of models is listed twice."""

from __future__ import annotations

import pytest
import torch
from lampwork_capture.variables import builder
from lampwork_capture.variables.registry import handles, wraps_base, wraps_type


def test_what_is_registered_is_not_registered_again():
    function = type("Function", (), {"__call__": lambda self: None})()
    handles(function)(lambda tracer, args, kwargs: None)
    wraps_type(type(function))(lambda tracer, obj, source: None)
    wraps_base(type(function))(lambda tracer, obj, source: None)
    for again in (handles(function), handles(torch.is_tensor), wraps_type(type(function)), wraps_base(torch.nn.Module)):
        with pytest.raises(ValueError, match="already"):
            again(lambda *args: None)


def test_files_of_models_are_listed_once():
    assert len(set(builder.MODELS)) == len(builder.MODELS)
