"""Fakes of inputs: like torch's own in all that a trace reads, and sharing memory where their tensors do."""

from __future__ import annotations

import itertools

import pytest
import torch
from lampwork_capture.graph.builder import GraphBuilder
from lampwork_capture.graph.fake_inputs import fake_input
from lampwork_capture.graph.scalar_inputs import ScalarInputs
from lampwork_capture.graph.tensor_sizes import SymbolicSizes, TensorSizes
from lampwork_capture.guards.facts import UserLine
from lampwork_capture.source import LocalSource
from lampwork_capture.varying import NOTHING_VARIES
from torch._subclasses.fake_tensor import FakeTensorMode

BASE = torch.arange(24.0).reshape(4, 6)
KINDS = {
    "plain": lambda: torch.ones(2, 3),
    "transposed": lambda: torch.empty_strided((2, 3), (1, 2)),
    "parameter": lambda: torch.nn.Parameter(torch.ones(3)),
    "parameter without gradient": lambda: torch.nn.Parameter(torch.ones(3), requires_grad=False),
    "leaf": lambda: torch.ones(2, requires_grad=True),
    "integers": lambda: torch.ones(2, 2, dtype=torch.int32),
    "complex": lambda: torch.ones(2, dtype=torch.complex64),
    "conjugate": lambda: torch.ones(2, dtype=torch.complex64).conj(),
    "channels last": lambda: torch.ones(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "scalar": lambda: torch.tensor(3.0),
    "empty": lambda: torch.ones(0, 3),
    "expanded": lambda: torch.ones(1).expand(4),
    "view": lambda: BASE[1:, 2:],
    "part of a storage": lambda: torch.ones(8).resize_(2),
    "detached": lambda: BASE.detach(),
    "computed": lambda: torch.ones(2, requires_grad=True) * 2,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fake_is_what_torch_makes(kind):
    tensor = KINDS[kind]()
    ours = fake_input(FakeTensorMode(), tensor)
    theirs = FakeTensorMode().from_tensor(tensor, static_shapes=True)
    for read in (
        lambda t: t.shape,
        lambda t: t.stride(),
        lambda t: t.dtype,
        lambda t: t.device,
        lambda t: t.storage_offset(),
        lambda t: t.requires_grad,
        lambda t: t.is_leaf,
        lambda t: isinstance(t, torch.nn.Parameter),
        lambda t: t.untyped_storage().nbytes(),
        lambda t: torch._C._dispatch_keys(t).raw_repr(),
        lambda t: t.constant,
        lambda t: t.is_inference(),
    ):
        assert read(ours) == read(theirs)


SHARING = {
    "itself": lambda t: t,
    "detached": lambda t: t.detach(),
    "view": lambda t: t[1:],
    "data": lambda t: t.data,
    "bytes": lambda t: t.detach().view(torch.uint8),
}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(SHARING, 2)))
@pytest.mark.parametrize("base", [lambda: torch.ones(4, 2), lambda: torch.nn.Parameter(torch.ones(4, 2))])
def test_fakes_share_memory_as_their_tensors_do(base, first, second):
    tensor, mode = base(), FakeTensorMode()
    others = [SHARING[first](tensor), SHARING[second](tensor)]
    fakes = [fake_input(mode, t) for t in others]
    alone = fake_input(mode, torch.ones(4, 2))
    assert fakes[0].untyped_storage()._cdata == fakes[1].untyped_storage()._cdata
    assert alone.untyped_storage()._cdata != fakes[0].untyped_storage()._cdata


def test_a_write_through_a_view_of_an_input_is_a_write_to_the_input():
    tensor = torch.ones(4, 2)
    scalars = ScalarInputs(NOTHING_VARIES, lambda: UserLine(__file__, 1, "f"))
    builder = GraphBuilder(scalars, TensorSizes(scalars, NOTHING_VARIES, SymbolicSizes.NONE, as_given=False))
    builder.add_input(tensor, LocalSource("x"))
    row = builder.add_input(tensor[1], LocalSource("y"))
    builder.add_node("call_method", "add_", (row, 1), {})
    assert builder.input_writes
