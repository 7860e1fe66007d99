"""Torch's own capture works before, during and after ours; Lampwork installed but unused changes nothing."""

import subprocess
import sys

import lampwork_capture
import torch


def f(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x) * 2 + x.sum()


def g(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x) - 1


def test_both_captures_in_one_process() -> None:
    x = torch.randn(6)
    theirs_before = torch.compile(f, backend="eager")
    torch.testing.assert_close(theirs_before(x), f(x))
    ours = torch.compile(f, backend="lampwork")
    torch.testing.assert_close(ours(x), f(x))

    inner = torch.compile(g, backend="eager", fullgraph=True)

    def mixed(t: torch.Tensor) -> torch.Tensor:
        return inner(torch.exp(t)) + 1

    torch.testing.assert_close(torch.compile(mixed, backend="lampwork")(x), g(torch.exp(x)) + 1)

    inner_ours = torch.compile(g, backend="lampwork")

    def mixed_other(t: torch.Tensor) -> torch.Tensor:
        return inner_ours(torch.exp(t)) + 1

    torch.testing.assert_close(torch.compile(mixed_other, backend="eager")(x), g(torch.exp(x)) + 1)

    theirs_after = torch.compile(g, backend="eager", fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(theirs_after(x), g(x))
        torch.testing.assert_close(ours(x), f(x))
        torch.testing.assert_close(theirs_before(x), f(x))


def test_their_capture_with_our_lowering() -> None:
    x = torch.randn(6)
    compiled = torch.compile(f, backend="lampwork_inductor", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), f(x))


def test_torch_compiler_disable_and_reset() -> None:
    seen: list[int] = []

    @torch.compiler.disable
    def hidden(t: torch.Tensor) -> torch.Tensor:
        seen.append(len(seen))
        return t + 1

    compiled = torch.compile(lambda t: hidden(t * 2) * 3, backend="lampwork")
    x = torch.randn(3)
    for _ in range(2):
        torch.testing.assert_close(compiled(x), (x * 2 + 1) * 3)
    assert seen == [0, 1]
    torch.compiler.reset()
    torch.testing.assert_close(compiled(x), (x * 2 + 1) * 3)


UNUSED = """
import torch
optimize = None
import lampwork, lampwork_capture
import sys
assert "lampwork.torch_backend" not in sys.modules
assert "torch._dynamo" not in sys.modules, "importing lampwork imports the peer"
import torch._dynamo
before = torch._dynamo.optimize, torch._dynamo.reset
x = torch.randn(3)
assert torch.equal(torch.compile(lambda t: t + 1, backend="eager")(x), x + 1)
assert (torch._dynamo.optimize, torch._dynamo.reset) == before
assert "lampwork.torch_backend" not in sys.modules
from lampwork_capture import _native
assert not _native.is_installed()
compiled = lampwork.compile(lambda t: t + 1)
assert not _native.is_installed()
compiled(x)
assert not _native.is_installed()
print("nothing changed")
"""


def test_installed_but_unused_changes_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", UNUSED], capture_output=True, text=True)
    assert done.stdout.strip().endswith("nothing changed"), done.stderr


def test_capture_and_torch_see_the_same_flags() -> None:
    seen: list[bool] = []

    def flags(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if torch.compiler.is_compiling() else x - 1

    x = torch.zeros(2)
    assert torch.equal(flags(x), x - 1)
    assert torch.equal(lampwork_capture.optimize(lambda graph, _: graph.forward)(flags)(x), x + 1)
    assert not torch.compiler.is_compiling() and not seen
