"""Writes that an operator's schema says nothing of: batch norm updates its running statistics in training."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F


def unused_result(x, mean, var, index):
    F.batch_norm(x, mean, var, training=True)
    return x + 1


def unused_result_of_instances(x, mean, var, index):
    F.instance_norm(x[None].mT, mean, var)
    return x + 1


def raises_behind_a_side_effect(x, mean, var, index):
    log = [1]
    y = F.batch_norm(x, mean, var, training=True)
    log.append(2)
    return y[index], log


def caught(x, mean, var, index):
    try:
        return F.batch_norm(x, mean, var, training=True)[index]
    except IndexError:
        return mean + 1


def caught_before(x, mean, var, index):
    try:
        y = x[index]
    except IndexError:
        y = x * 2
    return F.batch_norm(torch.cat([x, y]), mean, var, training=True)


def unexpected(x, mean, var, index):
    """The dtypes do not fit, which fake tensors do not tell."""
    y = F.batch_norm(x, mean, var, training=True)
    return y.heaviside(var.double())


FUNCTIONS = [unused_result, unused_result_of_instances, raises_behind_a_side_effect, caught, caught_before, unexpected]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_statistics_are_updated_once_a_call(function):
    found = []
    for wrap in (lambda f: f, capture.optimize("eager")):
        call, mean, var = wrap(function), torch.zeros(3), torch.ones(3)
        x = torch.arange(12.0).view(4, 3)
        for last in (0, 9, 1, 9):
            try:
                call(x, mean, var, torch.tensor([last]))
            except (IndexError, RuntimeError):
                pass
        found.append((mean.tolist(), var.tolist()))
    assert found[0] == found[1]
