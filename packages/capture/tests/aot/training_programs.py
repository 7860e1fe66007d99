"""What the tests of training share: a compiler that interprets, and the comparison of a program with eager.

Programs are captured from bytecode: what autograd meets is what users write. Graphs are interpreted, so that what is
tested is tracing, partition and run time.
"""

from __future__ import annotations

import lampwork_capture as capture
import torch
from lampwork_capture.aot import aot_backend
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint


class Interpreting:
    """A compiler that interprets; counts the calls of forward, backward and inference graphs."""

    def __init__(self):
        self.graphs = []
        self.calls = []

    def __call__(self, graph, example_inputs):
        self.graphs.append(graph)

        def run(*args):
            self.calls.append(graph._get_name())
            return graph.forward(*args)

        return run

    @property
    def names(self):
        return [graph._get_name() for graph in self.graphs]


def optimized(f, compiler=None, **options):
    return capture.optimize(aot_backend(compiler or Interpreting(), **options), fullgraph=True)(f)


def leaves(inputs):
    return [t.detach().clone().requires_grad_(t.requires_grad) if isinstance(t, torch.Tensor) else t for t in inputs]


def tensors(outputs):
    return [o for o in pytree.tree_leaves(outputs) if isinstance(o, torch.Tensor)]


def trained(f, inputs, orders, prepare):
    """Outputs, flags, inputs after the call and gradients of the given order."""
    inputs = leaves(inputs)
    sources = [t for t in inputs if isinstance(t, torch.Tensor) and t.requires_grad]
    outputs = f(*prepare(*inputs))
    flat = tensors(outputs)
    found = [o.detach().clone() for o in flat]
    values = [o for o in flat if o.requires_grad]
    for order in range(1, orders + 1):
        seeds = torch.Generator().manual_seed(order)
        tangents = [torch.randn(v.shape, dtype=v.dtype, generator=seeds) for v in values]
        gradients = torch.autograd.grad(values, sources, tangents, create_graph=order < orders, allow_unused=True)
        found += [torch.zeros_like(s) if g is None else g.detach() for s, g in zip(sources, gradients)]
        # as they are in eager, too: a gradient that does not depend on anything is not differentiated
        values = [(g * g).sum() + (g * s).sum() for s, g in zip(sources, gradients) if g is not None]
    return found, [o.requires_grad for o in flat], [t.detach() for t in inputs if isinstance(t, torch.Tensor)]


def check(f, *inputs, orders=2, prepare=lambda *x: x, graphs=("ForwardGraph", "BackwardGraph")):
    """Compares eager with compiled, two calls each; returns the compiler."""
    compiler = Interpreting()
    compiled = optimized(f, compiler)
    for order in range(1, orders + 1):
        torch.manual_seed(0)
        expected, flags, left = trained(f, inputs, order, prepare)
        torch.manual_seed(0)
        actual, our_flags, our_left = trained(compiled, inputs, order, prepare)
        assert flags == our_flags
        for e, a in zip([*expected, *left], [*actual, *our_left], strict=True):
            torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9)
    assert tuple(dict.fromkeys(compiler.names)) == graphs
    return compiler


def randn(*shape, grad=True):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


class Residual(nn.Module):
    """Blocks with dropout, each checkpointed or not."""

    def __init__(self, is_checkpointed):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Dropout(0.3), nn.Linear(32, 8)) for _ in range(3)
        )
        self.is_checkpointed = is_checkpointed

    def forward(self, x):
        for block in self.blocks:
            x = x + (checkpoint(block, x, use_reentrant=False) if self.is_checkpointed else block(x))
        return x


def kept_bytes(f, *inputs):
    """The bytes of the storages that autograd saves, beside parameters."""
    found = {}

    def pack(t):
        found[t.untyped_storage().data_ptr()] = (t.untyped_storage().nbytes(), isinstance(t, nn.Parameter))
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = f(*inputs)
    return sum(size for size, is_parameter in found.values() if not is_parameter), out
