"""Exception groups, and what `except*` does with them: split by class, run a handler for each part, put back together.

Invariant: a part of a group remembers which group it was split from, which is what tells an exception that a handler
raised anew from one that was not handled.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..source import AttributeSource, Source
from . import operators
from .base import Tracer, Value
from .class_lookup import find_in_class
from .class_value import ClassValue
from .constant import fold, is_known, snapshot
from .construction import VALUE_CLASSES
from .exception import ExceptionValue, exception_classes
from .list import ListValue
from .tuple import TupleValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_GROUP: Any = getattr(builtins, "BaseExceptionGroup", None)  # from 3.11
_PLAIN_GROUP: Any = getattr(builtins, "ExceptionGroup", None)


class ExceptionGroupValue(ExceptionValue):
    """An exception group. `origin` is the group it was split from."""

    kind = "an exception group"
    __slots__ = ("_members", "message", "origin")

    def __init__(self, class_value: ClassValue, source: Source | None = None, obj: Any = None) -> None:
        super().__init__(class_value, source, obj)
        self.message: Value | None = None
        self._members: list[Value] | None = None
        self.origin: ExceptionValue | None = None

    @property
    def first_raised(self) -> ExceptionValue:
        return self.origin or self

    def members(self, tracer: Tracer) -> list[Value]:
        """`group.exceptions`."""
        if self._members is None:
            assert self.source is not None
            found = tracer.wrap(self.obj.exceptions, AttributeSource(self.source, "exceptions"))
            self._members = found.unpack(tracer)
        return self._members

    def made_by_base(self, tracer: Tracer, args: Sequence[Value]) -> None:
        super().made_by_base(tracer, args)
        made = fold(tracer, _GROUP.__new__, self.cls, *_stand_ins(tracer, args))
        self.message = args[0].realize()
        self._members = args[1].realize().unpack(tracer)
        if type(made) is not self.cls:
            self.cls = type(made)
            self.class_value = ClassValue(self.cls)

    def initialized_by_base(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> None:
        """All was done by `__new__`."""

    def _from_descriptor(self, tracer: Tracer, name: str, raw: Any, owner: type) -> Value | None:
        if name == "exceptions":
            return TupleValue(self.members(tracer))
        if name == "message" and self.message is not None:
            return self.message
        return super()._from_descriptor(tracer, name, raw, owner)

    def call_base_slot(
        self, tracer: Tracer, method: Any, args: Sequence[Value], kwargs: Mapping[str, Value]
    ) -> Value | None:
        match method.__name__:
            case "split" | "subgroup":
                if not args[0].realize().is_constant() and not isinstance(args[0].realize(), TupleValue):
                    raise GraphBreak(BreakId.CALL_NOT_MODELLED, "splitting a group by a function is not modelled")
                matching, rest = split(tracer, self, exception_classes(tracer, args[0]))
                first = matching or tracer.constant(None)
                return first if method.__name__ == "subgroup" else TupleValue([first, rest or tracer.constant(None)])
            case "derive":
                return self.derive(tracer, args[0].realize().unpack(tracer))
            case _:
                return super().call_base_slot(tracer, method, args, kwargs)

    def derive(self, tracer: Tracer, members: Sequence[Value]) -> ExceptionGroupValue:
        """A group with the same message, without cause and context."""
        message = self.get_attribute(tracer, "message")
        made = ClassValue(_GROUP).call(tracer, [message, ListValue(members)], {})
        assert isinstance(made, ExceptionGroupValue)
        return made

    def part(self, tracer: Tracer, members: Sequence[Value]) -> ExceptionGroupValue:
        """What `split` makes of some of the members: the same message, cause and context."""
        self.class_value.guard_method(tracer, "derive")
        if isinstance(find_in_class(self.cls, "derive")[0], FunctionType):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`derive` of {self.describe()} is not modelled")
        made = self.derive(tracer, members)
        for name in ("__cause__", "__context__"):
            made._related[name] = self.related(tracer, name)
        made._related["__suppress_context__"] = tracer.constant(True)  # as by setting the cause
        traceback = self.get_attribute(tracer, "__traceback__")
        made.raised = self.raised
        if traceback.source is not None and not tracer.is_none(traceback):
            tracer.side_effects.store_attribute(made, "__traceback__", traceback)
        notes = self.instance_attribute(tracer, "__notes__", in_class=False)
        if notes is not None and issubclass(notes.python_type(), (list, tuple)):
            tracer.side_effects.store_attribute(made, "__notes__", ListValue(notes.unpack(tracer)))
        made.origin = self.origin or self
        return made

    def _builtin_text(self, tracer: Tracer, convert: Callable[[Any], str]) -> str:
        if convert is not str:
            return super()._builtin_text(tracer, convert)
        count = len(self.members(tracer))
        message = operators.text_of(tracer, self.get_attribute(tracer, "message"), str)
        return f"{message} ({count} sub-exception{'s' if count > 1 else ''})"

    def children(self) -> Sequence[Value]:
        return (*super().children(), *(self._members or ()))

    def reconstruct(self, emitter: ValueEmitter) -> None:
        self._initial = (self._args or [], {})
        super().reconstruct(emitter)


def _stand_ins(tracer: Tracer, args: Sequence[Value]) -> list[Any]:
    """Real arguments for a group of the same kind, to learn what making it raises, and its class."""
    given = [arg.realize() for arg in args]
    if len(given) != 2:
        return given  # too few or too many, whatever they are
    message, members = given
    kind = members.python_type()
    if not (is_known(message) or issubclass(message.python_type(), str)):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"a group with {message.describe()} as its message")
    text = snapshot(message) if is_known(message) else ""
    if is_known(members):
        return [text, snapshot(members)]
    if kind not in (list, tuple):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"a group of what {members.describe()} holds")
    return [text, kind(_of_same_kind(member.realize()) for member in members.unpack(tracer))]


def _of_same_kind(member: Value) -> Any:
    """A real object that a group takes, or refuses, as it does this one."""
    kind = member.python_type()
    if not issubclass(kind, BaseException):
        return object()
    return Exception() if issubclass(kind, Exception) else BaseException()


if _GROUP is not None:
    VALUE_CLASSES.insert(0, (_GROUP, ExceptionGroupValue))


def split(
    tracer: Tracer, error: ExceptionValue, classes: tuple[type, ...]
) -> tuple[ExceptionValue | None, ExceptionValue | None]:
    """What of an exception is of these classes, and what is not; groups keep their shape."""
    if issubclass(error.cls, classes):
        return error, None
    if not isinstance(error, ExceptionGroupValue):
        return None, error
    parts = [split(tracer, member, classes) for member in error.members(tracer) if isinstance(member, ExceptionValue)]
    matching = [part for part, _ in parts if part is not None]
    rest = [part for _, part in parts if part is not None]
    return (
        error.part(tracer, matching) if matching else None,
        error.part(tracer, rest) if rest else None,
    )


def match_star(tracer: Tracer, error: Value, kind: Value) -> tuple[Value, Value]:
    """`except* kind`: what is left of the exception, and what this clause handles (each may be None)."""
    none = tracer.constant(None)
    if not isinstance(error, ExceptionValue):
        return none, none
    classes = exception_classes(tracer, kind)
    if any(issubclass(cls, _GROUP) for cls in classes):
        tracer.raise_observed(TypeError, "catching ExceptionGroup with except* is not allowed. Use except instead.")
    if isinstance(error, ExceptionGroupValue):
        matching, rest = split(tracer, error, classes)
        return rest or none, matching or none
    if not issubclass(error.cls, classes):
        return error, none
    wrapped = ClassValue(_GROUP).call(tracer, [tracer.constant(""), TupleValue([error])], {})
    return none, wrapped


def prepare_reraise(tracer: Tracer, original: Value, collected: Sequence[Value]) -> Value:
    """What is raised after the last `except*` clause: what no clause handled, and what the clauses raised."""
    errors = [value for value in collected if isinstance(value, ExceptionValue)]
    if not errors:
        return tracer.constant(None)
    if not isinstance(original, ExceptionGroupValue):
        return errors[0]
    left = [e for e in errors if e is original or (isinstance(e, ExceptionGroupValue) and e.origin is original)]
    raised: list[Value] = [e for e in errors if e not in left]
    kept = {id(leaf) for error in left for leaf in _leaves(tracer, error)}
    again = _keep(tracer, original, kept) if kept else None
    if not raised:
        return again or tracer.constant(None)
    if again is not None:
        raised.append(again)
    if len(raised) == 1:
        return raised[0]
    return ClassValue(_GROUP).call(tracer, [tracer.constant(""), TupleValue(raised)], {})


def _leaves(tracer: Tracer, error: ExceptionValue) -> Iterable[ExceptionValue]:
    if isinstance(error, ExceptionGroupValue):
        for member in error.members(tracer):
            if isinstance(member, ExceptionValue):
                yield from _leaves(tracer, member)
    else:
        yield error


def _keep(tracer: Tracer, error: ExceptionValue, kept: set[int]) -> ExceptionValue | None:
    """The group with only these leaves, in its own shape."""
    if not isinstance(error, ExceptionGroupValue):
        return error if id(error) in kept else None
    members = [m for m in error.members(tracer) if isinstance(m, ExceptionValue)]
    parts = [part for member in members if (part := _keep(tracer, member, kept)) is not None]
    if not parts:
        return None
    return error if len(parts) == len(members) and parts == members else error.part(tracer, parts)
