"""Programs around torch: each runs eagerly and optimized on fresh state, and everything that can be seen is compared.

A program is a function that makes `(f, *steps)`: a tuple is a call of `f`, a function is run between two calls
(given the results so far if it takes an argument). Compared are values, dtypes, strides, gradients, who is whom, who
shares memory with whom, state of modules and of torch, and exceptions.
"""

from __future__ import annotations

import contextlib
import io
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lampwork_capture
import torch
from lampwork_capture.config import CaptureConfig
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.graph_break import BreakId
from lampwork_capture.optimize import eager_backend, shared_policy, with_callback

Maker = Callable[[], Any]
_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.layout, torch.Size)


@dataclass
class Surface:
    """The programs of one file, with whether each must be captured without a break."""

    programs: list[tuple[Maker, bool]] = field(default_factory=list)

    def whole(self, make: Maker) -> Maker:
        self.programs.append((make, True))
        return make

    def any_graphs(self, make: Maker) -> Maker:
        self.programs.append((make, False))
        return make


class Observer:
    """Turns objects into data that two runs can be compared by: identities and storages are numbered as met."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], int] = {}
        self._kept: list[Any] = []

    def _number(self, kind: str, key: int, keep: Any) -> int:
        self._kept.append(keep)
        return self._numbers.setdefault((kind, key), len(self._numbers))

    def see(self, obj: Any, depth: int = 0) -> Any:
        """`obj` as data."""
        if isinstance(obj, torch.Tensor):
            return self._tensor(obj, depth)
        if isinstance(obj, _PLAIN):
            return (type(obj).__name__, repr(obj))
        if depth > 6 or isinstance(obj, (type, types.ModuleType)):
            return type(obj).__name__
        if isinstance(obj, (list, tuple, set, frozenset)):
            number = None if isinstance(obj, (tuple, frozenset)) else self._number("object", id(obj), obj)
            return (type(obj).__name__, number, [self.see(item, depth + 1) for item in obj])
        if isinstance(obj, dict):
            return (type(obj).__name__, [(self.see(k, depth + 1), self.see(v, depth + 1)) for k, v in obj.items()])
        if isinstance(obj, torch.nn.Module):
            return self._module(obj, depth)
        if isinstance(obj, (types.FunctionType, types.MethodType)):
            return obj.__qualname__
        seen = self._number("object", id(obj), obj)
        names = getattr(obj, "__dict__", {})
        return (type(obj).__name__, seen, [(k, self.see(v, depth + 1)) for k, v in names.items()])

    def _module(self, module: torch.nn.Module, depth: int) -> Any:
        own = vars(module)
        skipped = {"_modules", "_parameters", "_buffers"} | {name for name in own if "hook" in name}
        return (
            type(getattr(module, "_orig_mod", module)).__name__,
            [(k, self.see(v, depth + 2)) for k, v in own.items() if k not in skipped],
            [(k, self.see(v)) for k, v in own["_parameters"].items()],
            [(k, self.see(v)) for k, v in own["_buffers"].items()],
            [(k, self.see(v)) for k, v in own["_modules"].items()],
        )

    def _tensor(self, t: torch.Tensor, depth: int) -> Any:
        identity = self._number("tensor", id(t), t)
        facts: list[Any] = [type(t).__name__, identity, str(t.dtype), tuple(t.shape), t.requires_grad, str(t.layout)]
        if type(t) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer) or t.layout is not torch.strided:
            return (*facts, repr(t))
        facts += [t.is_leaf, t.is_inference(), t.device.type, t.is_conj(), t.is_neg()]
        facts.append(type(t.grad_fn).__name__)
        if t.is_quantized or t.device.type == "meta" or torch._C._functorch.is_functorch_wrapped_tensor(t):
            return (*facts, repr(t))
        storage = t.untyped_storage()
        facts += [t.stride(), t.storage_offset(), self._number("storage", storage._cdata, storage)]
        facts += [t._is_view(), repr(t.detach().tolist())]
        if t.is_leaf and t.grad is not None:
            facts.append(self.see(t.grad, depth + 1))
        extra = {k: v for k, v in vars(t).items() if "dynamo" not in k}  # marks that torch itself puts
        if extra:
            facts.append(self.see(extra, depth + 1))
        return tuple(facts)


def _torch_state() -> Any:
    return (
        torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"), torch.get_default_dtype(), torch.get_default_device(),
        torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack(),
        torch.random.get_rng_state().sum().item(), torch.backends.cuda.flash_sdp_enabled(),
    )  # fmt: skip


def run(make: Maker, optimized: Callable[[Any], Any]) -> list[Any]:
    """What each step of a program shows."""
    torch.manual_seed(0)
    f, *steps = make()
    called = optimized(f)
    observer = Observer()
    results: list[Any] = []
    seen: list[Any] = []
    for step in steps:
        output, error, result = io.StringIO(), None, None
        with contextlib.redirect_stdout(output):
            try:
                if isinstance(step, tuple):
                    result = called(*step)
                    results.append(result)
                else:
                    step(*([results] if step.__code__.co_argcount else []))
            except Exception as raised:
                error = (type(raised).__name__, str(raised).splitlines()[:1])
        arguments = step if isinstance(step, tuple) else ()
        module = f if isinstance(f, torch.nn.Module) else None
        seen.append(
            [observer.see(part) for part in (result, arguments, module)] + [error, output.getvalue(), _torch_state()]
        )
    seen.append([observer.see(results), observer.see([s for s in steps if isinstance(s, tuple)])])
    return seen


def differences(want: Any, got: Any, path: str = "") -> list[str]:
    """Where two observations differ."""
    if isinstance(want, (list, tuple)) and isinstance(got, (list, tuple)) and len(want) == len(got):
        return [line for i, (a, b) in enumerate(zip(want, got)) for line in differences(a, b, f"{path}[{i}]")]
    return [] if want == got else [f"{path}: eager {want!r}, optimized {got!r}"[:400]]


def check(make: Maker, is_whole: bool) -> None:
    """Eager and optimized agree in every step; no break where none is allowed."""
    callback = FrameCallback(eager_backend, "eager", CaptureConfig(strict=True), shared_policy())
    lampwork_capture.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = run(make, lambda f: f)
        got = run(make, lambda f: with_callback(f, callback))
    found = differences(want, got)
    assert not found, "\n".join(found)
    if is_whole:
        breaks = [r.graph_break for r in callback.records if r.graph_break is not None]
        breaks = [b for b in breaks if b.break_id is not BreakId.NO_TENSOR_WORK]
        assert not breaks, breaks
        assert any(record.graph is not None for record in callback.records), "no graph"
