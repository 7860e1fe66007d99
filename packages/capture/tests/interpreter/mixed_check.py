"""Runs a mixed program eager and optimized, call by call over equal fresh state that changes between the calls.

What must agree: results, aliasing (of objects and of storages), arguments and module state after each call, printed
text, and exceptions (type, args, cause and context).
"""

from __future__ import annotations

import collections
import contextlib
import io
import types
import warnings
from pathlib import Path
from typing import Any

import lampwork_capture
import torch
from lampwork_capture.config import CaptureConfig
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.optimize import eager_backend, shared_policy, with_callback

PRELUDE = compile(Path(__file__).with_name("random_prelude.py").read_text(), "<prelude>", "exec")
# n, flag and label of each call: what changes alone, then together, then comes back
CALLS = (
    (1, True, "a"),
    (2, None, "b"),
    (2.5, False, "a"),
    (1, True, ""),
)


class Pairs:
    """Walks what eager and optimized made in step; one object on one side is one object on the other."""

    def __init__(self) -> None:
        self.objects: dict[int, int] = {}
        self.mirrored: dict[int, int] = {}
        self.kept: list[Any] = []

    def tie(self, left: int, right: int, path: str) -> None:
        known = self.objects.setdefault(left, right)
        back = self.mirrored.setdefault(right, left)
        assert known == right and back == left, f"{path}: aliasing"

    def members(self, want: Any, got: Any, path: str) -> None:
        """Elements of sets: tensors are equal by identity only, so they are paired by what they hold."""
        both = [sorted((item for item in items if isinstance(item, torch.Tensor)), key=str) for items in (want, got)]
        rest = [{item for item in items if not isinstance(item, torch.Tensor)} for items in (want, got)]
        assert rest[0] == rest[1] and len(both[0]) == len(both[1]), f"{path}: {want!r} is not {got!r}"
        for left, right in zip(*both):
            self.same(left, right, f"{path} of a set")

    def same(self, want: Any, got: Any, path: str) -> None:
        kind = type(want)
        assert kind.__qualname__ == type(got).__qualname__, f"{path}: {want!r} is not {got!r}"
        if want is None or kind in (int, float, str, bool, bytes, type(Ellipsis)):
            assert want == got or want != want, f"{path}: {want!r} is not {got!r}"
            return
        if isinstance(want, (type, types.ModuleType, types.BuiltinFunctionType)):
            assert want.__name__ == got.__name__, path
            return
        if kind is tuple:  # whether equal constants are one object is nobody's business
            assert len(want) == len(got), f"{path}: {want!r} is not {got!r}"
            for index, (left, right) in enumerate(zip(want, got)):
                self.same(left, right, f"{path}[{index}]")
            return
        seen = id(want) in self.objects
        self.tie(id(want), id(got), path)
        if seen:
            return
        self.kept += [want, got]
        if isinstance(want, torch.Tensor):
            self.tensor(want, got, path)
        elif isinstance(want, (list, tuple, collections.deque)):
            assert len(want) == len(got), f"{path}: {want!r} is not {got!r}"
            assert getattr(want, "maxlen", None) == getattr(got, "maxlen", None), path
            for index, (left, right) in enumerate(zip(want, got)):
                self.same(left, right, f"{path}[{index}]")
        elif isinstance(want, (set, frozenset)):
            self.members(want, got, path)
        elif isinstance(want, dict):
            assert list(want) == list(got), f"{path}: keys {list(want)} {list(got)}"
            for key in want:
                self.same(want[key], got[key], f"{path}[{key!r}]")
        elif isinstance(want, types.FunctionType):
            assert want.__qualname__ == got.__qualname__, path
            self.same(want.__defaults__, got.__defaults__, f"{path}.__defaults__")
            self.same(want.__kwdefaults__, got.__kwdefaults__, f"{path}.__kwdefaults__")
            for left, right in zip(want.__closure__ or (), got.__closure__ or ()):
                self.cell(left, right, f"{path}.__closure__")
        elif hasattr(want, "__dict__"):
            self.attributes(want, got, path)

    def attributes(self, want: Any, got: Any, path: str) -> None:
        left, right = vars(want), vars(got)
        assert list(left) == list(right), f"{path}: attributes {list(left)} {list(right)}"
        for name in left:
            self.same(left[name], right[name], f"{path}.{name}")
        if isinstance(want, BaseException):
            self.error(want, got, path)

    def error(self, want: BaseException | None, got: BaseException | None, path: str) -> None:
        if want is None or got is None:
            assert want is got, f"{path}: {want!r} is not {got!r}"
            return
        assert type(want).__qualname__ == type(got).__qualname__, f"{path}: {want!r} is not {got!r}"
        assert str(want.args) == str(got.args), f"{path}: {want.args!r} is not {got.args!r}"
        self.error(want.__cause__, got.__cause__, f"{path}.__cause__")
        self.error(want.__context__, got.__context__, f"{path}.__context__")

    def cell(self, want: Any, got: Any, path: str) -> None:
        seen = id(want) in self.objects
        self.tie(id(want), id(got), path)
        if seen:
            return
        self.kept += [want, got]
        contents = []
        for one in (want, got):
            try:
                contents.append((one.cell_contents,))
            except ValueError:
                contents.append(())
        assert len(contents[0]) == len(contents[1]), f"{path}: empty"
        if contents[0]:
            self.same(contents[0][0], contents[1][0], f"{path}.contents")

    def tensor(self, want: torch.Tensor, got: torch.Tensor, path: str) -> None:
        facts = [(t.dtype, t.shape, t.stride(), t.storage_offset(), t.requires_grad) for t in (want, got)]
        assert facts[0] == facts[1], f"{path}: {facts}"
        equal = torch.equal(want.detach().nan_to_num(7.0), got.detach().nan_to_num(7.0))
        assert equal, f"{path}: {want} is not {got}"
        if want.numel():
            self.tie(-want.untyped_storage().data_ptr(), -got.untyped_storage().data_ptr(), f"{path}: storage")


def fresh(text: str, name: str) -> dict[str, Any]:
    """A namespace with the program and its own copy of the prelude."""
    namespace: dict[str, Any] = {"__name__": "random_program"}
    exec(PRELUDE, namespace)
    exec(compile(text, name, "exec"), namespace)
    return namespace


def call(namespace: dict[str, Any], target: Any, arguments: tuple[Any, ...]) -> tuple[Any, BaseException | None, str]:
    output = io.StringIO()
    result, error = None, None
    with contextlib.redirect_stdout(output):
        try:
            result = target(*arguments)
        except Exception as raised:
            error = raised
    return result, error, output.getvalue()


def check_mixed(text: str, name: str = "<program>") -> FrameCallback:
    """Compare eager and optimized over CALLS; raises AssertionError at the first difference."""
    callback = FrameCallback(eager_backend, "eager", CaptureConfig(strict=True), shared_policy())
    lampwork_capture.reset()
    sides = [fresh(text, name), fresh(text, name)]
    targets = [sides[0]["program"], with_callback(sides[1]["program"], callback)]
    boxes = [side["Box"](torch.ones(3)) for side in sides]
    grad_mode = torch.is_grad_enabled()
    pairs = Pairs()
    for number, (n, flag, label) in enumerate(CALLS):
        shown = []
        for side, target, box in zip(sides, targets, boxes):
            if number:  # what the caller changes between the calls
                box.count += number
                box.items.append(number)
                side["state"].count = -number
            x = torch.tensor([1.0, -2.0, 3.0]) + number
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcome = call(side, target, (x, box, n, flag, label))
            grad = torch.is_grad_enabled()
            torch.set_grad_enabled(grad_mode)
            shown.append((*outcome, x, grad))
        want, got = shown
        where = f"call {number}"
        if got[1] is not None and want[1] is None:
            raise AssertionError(f"{where}: raised {got[1]!r}") from got[1]
        pairs.error(want[1], got[1], f"{where}: exception")
        assert want[2] == got[2], f"{where}: output {want[2]!r} is not {got[2]!r}"
        assert want[4] == got[4], f"{where}: grad mode"
        pairs.same(want[3], got[3], f"{where}: x")
        pairs.same(want[0], got[0], f"{where}: result")
        # objects keep their pair, contents change: every call compares contents anew
        after = Pairs()
        after.same(want[3], got[3], f"{where}: x")
        after.same(want[0], got[0], f"{where}: result")
        for changed in ("log", "state", "level"):
            after.same(sides[0][changed], sides[1][changed], f"{where}: {changed}")
        after.same(boxes[0], boxes[1], f"{where}: box")
    return callback
