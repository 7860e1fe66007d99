"""Floats that torch reads as C numbers: an epsilon, the scale of attention. There a symbolic float loses its symbol.

The graph runner calls such a function with a stand-in, a float that nothing else is, and the recorder puts the symbol
back where an operator takes the stand-in. Only for functions that hand the number on as it is: what torch computed
from one would be a constant. Invariant: a float of which nobody could be told but by its value refuses the graph.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from lampwork_symshape.float_node import FloatNode
from lampwork_symshape.sym_node import is_c_float, traced_number
from torch import SymFloat, SymInt
from torch._ops import OpOverload

from .errors import UnsupportedForAot

_Place = tuple[int, str]
_EPS: Sequence[_Place] = ((4, "eps"),)
_STATISTICS: Sequence[_Place] = ((6, "momentum"), (7, "eps"))
_HANDED_ON: Mapping[Any, Sequence[_Place]] = {
    F.layer_norm: _EPS,
    torch.layer_norm: _EPS,
    F.group_norm: _EPS,
    torch.group_norm: _EPS,
    F.rms_norm: ((3, "eps"),),
    torch.rms_norm: ((3, "eps"),),
    F.batch_norm: _STATISTICS,
    torch.batch_norm: _STATISTICS,
    F.instance_norm: _STATISTICS,
    torch.instance_norm: _STATISTICS,
    F.huber_loss: ((3, "delta"),),
    F.smooth_l1_loss: ((5, "beta"),),
    F.scaled_dot_product_attention: ((6, "scale"),),  # what computes with its root takes no stand-in, and is refused
}
_DROPOUTS = frozenset(
    {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout,
     torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout}
)  # fmt: skip
_STEP = 7919  # in units of the last place: what nobody writes


@dataclass(slots=True)
class StandIns:
    """The stand-ins of one call, by their bits."""

    function: str
    symbols: dict[bytes, SymFloat] = field(default_factory=dict)
    names: dict[bytes, str] = field(default_factory=dict)
    taken: set[bytes] = field(default_factory=set)

    def make(self, symbol: SymFloat, name: str) -> float:
        """A stand-in for a symbolic float, the argument of this name: near it, of its sign, and not 0."""
        value = float(traced_number(symbol))
        if abs(value) < sys.float_info.min or not math.isfinite(value):
            raise self._refusal(name, f"{value} has no float beside it that could stand for all others")
        bits = int.from_bytes(struct.pack("<d", value), "little") ^ (_STEP + 2 * len(self.symbols))
        key = bits.to_bytes(8, "little")
        self.symbols[key] = symbol
        self.names[key] = name
        return struct.unpack("<d", key)[0]

    def put_back(
        self, op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an operator with symbols for stand-ins."""
        parameters = op._schema.arguments
        types = {parameter.name: parameter.type for parameter in parameters}
        return (
            tuple(self._symbol(value, parameter.type) for value, parameter in zip(args, parameters)),
            {name: self._symbol(value, types.get(name)) for name, value in kwargs.items()},
        )

    def _symbol(self, value: Any, wanted: Any) -> Any:
        if type(value) is not float or not is_c_float(wanted):
            return value
        bits = struct.pack("<d", value)
        if bits not in self.symbols:
            return value
        self.taken.add(bits)
        return self.symbols[bits]

    def check(self) -> None:
        """Raise UnsupportedForAot if one was not taken by an operator."""
        for key, name in self.names.items():
            if key not in self.taken:
                raise self._refusal(name, "no operator takes it as it is: torch computes with it, as a C number")

    def _refusal(self, name: str, reason: str) -> UnsupportedForAot:
        return UnsupportedForAot(
            f"`{self.function}({name}=...)` is compiled for each value, because {reason}",
            operator=self.function,
            hint=f"Give `{name}` a value that does not vary between calls, or compute with tensors.",
        )


def with_stand_ins(target: Any, args: Any, kwargs: Any) -> tuple[Any, Any, StandIns | None]:
    """The arguments of a captured call, with stand-ins where its function hands symbolic floats on.

    A dropout that drops nothing does not read its probability, which the capture knows to be one.
    """
    if target in _DROPOUTS and (args[2] if len(args) > 2 else kwargs.get("training")) is False:
        args = (args[0], *map(traced_number, args[1:]))
        kwargs = {name: traced_number(value) for name, value in kwargs.items()}
        return args, kwargs, None
    places = _HANDED_ON.get(target, ())
    made: StandIns | None = None
    for position, name in places:
        found = args[position] if len(args) > position else kwargs.get(name)
        if isinstance(found, SymFloat):
            made = made or StandIns(_spelling(target))
            plain = made.make(found, name)
            if len(args) > position:
                args = (*args[:position], plain, *args[position + 1 :])
            else:
                kwargs = {**kwargs, name: plain}
    return args, kwargs, made


def _spelling(target: Any) -> str:
    """A function of torch as programs write it."""
    name = target.__name__
    return f"{'F' if getattr(F, name, None) is target else 'torch'}.{name}"


def computed_float(captured: Any, args: tuple[Any, ...]) -> SymFloat | None:
    """What a function of Python, which would ask numbers for their values, gave in the capture; None for others."""
    node: Any = captured.node if isinstance(captured, SymFloat) else None
    if not isinstance(node, FloatNode) or node.shape_env.has_unknown(node.term):
        return None
    if type(node.shape_env.scalar_hint(node.term)) is not float:
        return None
    return captured if all(isinstance(a, int | float | SymInt | SymFloat) for a in args) else None


@contextmanager
def no_float_decided(inputs: Iterable[Any]) -> Generator[None]:
    """Raise UnsupportedForAot if a float input is asked for its value within: the graph would be right for one alone.

    Whatever fails within leaves no fact about floats behind: other forms of the graph do not rely on them.
    """
    nodes: list[Any] = [value.node for value in inputs if isinstance(value, SymFloat)]
    envs = {id(node.shape_env): node.shape_env for node in nodes if isinstance(node, FloatNode)}
    before = [(env, len(env.scalar_facts)) for env in envs.values()]
    try:
        yield
        for env, count in before:
            for fact in env.scalar_facts[count:]:
                if type(fact.value) is float:
                    raise UnsupportedForAot(f"the value of {fact.expr} is asked for", user_line=fact.frame)
    except BaseException:
        for env, count in before:
            env.forget_scalar_facts(count)
        raise


__all__ = ["StandIns", "computed_float", "no_float_decided", "with_stand_ins"]
