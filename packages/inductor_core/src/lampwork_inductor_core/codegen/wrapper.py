"""The wrapper: the host program of a graph, first as data, then as one Python file that a person can read and edit.

Last stage before running: allocations, launches, operator calls and frees in order. The text imports only torch; the
kernels, constants and opaque callables that it names are handed to it (`runtime.compiled_graph.load_wrapper`).
Invariant: printing is a pure function of the program, and the text does what the lines say and no more.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lampwork_symshape import BoolExpr, IntExpr, PythonPrinter, Quantity, Symbol, integer

from ..backend import LargeMemory
from ..ir.buffer import BufferView
from ..ir.float_expr import INFIX, FloatExpr, FloatInput, FloatOf, shared_parts
from ..ir.layout import Layout, OpaqueLayout, contiguous_strides
from ..runtime.compiled_graph import Form, restride
from ..schedule.dependencies import views_in

_ZERO, _ONE = integer(0), integer(1)
_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
_PLAIN = Form()


@dataclass(frozen=True, slots=True)
class Comment:
    """Which ATen nodes and lines of the user's program the next lines compute."""

    text: str


@dataclass(frozen=True, slots=True)
class Allocate:
    """New memory for a buffer."""

    name: str
    layout: Layout


@dataclass(frozen=True, slots=True)
class TakeOver:
    """`name` lies in the memory of `source`, which is dead or updated in place. `layout`: only if its tensor must
    differ."""

    name: str
    source: str
    layout: Layout | None = None


@dataclass(frozen=True, slots=True)
class CopyInto:
    """Fill a buffer with the elements of another of the same layout."""

    target: str
    source: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Run a kernel (by its generated name) on buffers, then sizes, then floats."""

    kernel: str
    buffers: tuple[str, ...]
    sizes: tuple[IntExpr, ...] = ()
    floats: tuple[FloatExpr, ...] = ()


@dataclass(frozen=True, slots=True)
class ExternCall:
    """Call an operator. `results`: (position in what it returns, or None for the one result; name; layout)."""

    call: str
    target: Any
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    results: tuple[tuple[int | None, str, Layout | OpaqueLayout], ...]
    out: str | None = None  # the planned buffer that an out variant writes
    aliased: bool = False  # the result is a view, by the operator's contract
    defines: tuple[SizeBinding, ...] = ()  # of the results, whose names stand for inputs


@dataclass(frozen=True, slots=True)
class Free:
    """Nobody needs these any more."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FreeInputs:
    """No later line reads these inputs: a caller that hands its inputs over is rid of them here."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutputValue:
    """One returned value: a buffer (seen through `layout` if given; as a copy if `fresh`), or a literal."""

    name: str | None
    layout: Layout | None = None
    literal: Any = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Return:
    """The graph's outputs."""

    values: tuple[OutputValue, ...]


Line = Comment | Allocate | TakeOver | CopyInto | Launch | ExternCall | Free | FreeInputs | Return


@dataclass(frozen=True, slots=True)
class SizeBinding:
    """A symbol takes its value from an input: `(a number of the input - rest) // factor`, which is exact.

    `quantity` and `dimension` say which number: a size, a stride, or the value of an input that is an integer.
    """

    symbol: Symbol
    input: str
    dimension: int = 0
    quantity: Quantity = Quantity.SIZE
    factor: IntExpr = _ONE
    rest: IntExpr = _ZERO


@dataclass(frozen=True, slots=True)
class WrapperProgram:
    """The host program. `inputs` are names by position (None: not used); `layouts` are of the tensors that names
    hold; `given` are the allocations whose memory a caller may bring, as results end in it."""

    inputs: tuple[str | None, ...]
    constants: tuple[str, ...]
    sizes: tuple[SizeBinding, ...]
    lines: tuple[Line, ...]
    layouts: Mapping[str, Layout | OpaqueLayout]
    kernels: tuple[str, ...]
    large_memory: Mapping[str, LargeMemory] = field(default_factory=dict)  # by device type
    given: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------------------- printing


@dataclass(frozen=True, slots=True)
class WrapperText:
    """The file, and what it expects to find in `externs` besides `kernels` and `constants`."""

    text: str
    externs: Mapping[str, Any]


def print_wrapper(
    program: WrapperProgram,
    form: Form = _PLAIN,
    *,
    restride: Collection[str] = (),
    clone: Collection[str] = (),
) -> WrapperText:
    """The program as Python, in one of its forms.

    `restride` and `clone` name results that were found to differ from their layouts and are copied into the expected
    one or out of shared memory.
    """
    printer = _Printer(program, form, restride, clone)
    return WrapperText(printer.file(), printer.externs)


_FROM_TORCH = ("as_strided", "empty", "empty_strided")


class _Printer:
    def __init__(self, program: WrapperProgram, form: Form, restride: Collection[str], clone: Collection[str]) -> None:
        self.program, self.form, self.checked = program, form, form.checked
        self.restride, self.clone = restride, clone
        self.bound: dict[str, str] = {}  # module-level name -> expression
        self.externs: dict[str, Any] = {}
        self.layouts: dict[str, Layout | OpaqueLayout] = dict(program.layouts)
        self.body: list[str] = []
        self.devices: dict[torch.device, str] = {}
        self.names = _names_of(program)
        self.given = {name: number for number, name in enumerate(program.given)} if form.given else {}
        self.memory = "memory"  # the parameter that brings it; an input may have that name
        while self.memory in self.names:
            self.memory += "_"
        self.floats: dict[FloatExpr, str] = {}  # those that have been computed, and their variables
        self.print_number = PythonPrinter(rename=self._symbol)

    def file(self) -> str:
        program, given = self.program, self.form.given
        for line in program.lines:
            self._line(line)
        head = [
            '"""A compiled graph.',
            "",
            "`call(inputs)` takes the list of the graph's inputs and returns the list of its outputs. Names that are",
            "not defined here are given by whoever loads this file: `kernels` (callables by name; tensors first, then",
            "numbers), `constants` (tensors by name) and `externs` (operators that have no name to import).",
            *([f"`{self.memory}(number, sizes, strides, dtype, device)` brings what results lie in."] if given else []),
            '"""',
            "",
            "import torch",
        ]
        used = [n for n in _FROM_TORCH if any(re.search(rf"(?<![\w.]){n}\(", line) for line in self.body)]
        if used:
            head.append(f"from torch import {', '.join(used)}")
        bound = " ".join([*self.bound.values(), *self.body])
        if not self.devices and not re.search(r"(?<![\w.])torch\.", bound):
            head.remove("import torch")
        if head[-1]:
            head.append("")
        for device, name in self.devices.items():
            head.append(f"{name} = torch.device({str(device)!r})")
        head.extend(f"{name} = {expression}" for name, expression in self.bound.items())
        head.extend(f'{name} = constants["{name}"]' for name in program.constants)
        head.extend(f'{name} = kernels["{name}"]' for name in program.kernels)
        head.extend(["", "", f"def call(inputs, {self.memory}):" if given else "def call(inputs):"])
        head.extend(f"    {line}" for line in self._arrival())
        head.extend(f"    {self._symbol(b.symbol)} = {self._bound_value(b)}" for b in program.sizes)
        return "\n".join([*head, *self.body, ""])

    def _arrival(self) -> list[str]:
        """The inputs get their names."""
        inputs, owned = self.program.inputs, self.form.owned
        unused = sum(name is None for name in inputs)
        lines: list[str] = []
        if unused < len(inputs):
            if len(inputs) > 1 and unused * 2 <= len(inputs) and not (owned and unused):
                lines.append(f"{', '.join(name or '_' for name in inputs)} = inputs")
            else:  # and one by one where the name of those that nobody reads would keep the last of them
                lines.extend(f"{name} = inputs[{k}]" for k, name in enumerate(inputs) if name is not None)
        return [*lines, "inputs.clear()"] if owned else lines

    def _symbol(self, symbol: Symbol) -> str:
        """The variable that holds a symbol's value; no buffer has its name."""
        return f"size_{symbol.name}" if symbol.name in self.names else symbol.name

    def _bound_value(self, binding: SizeBinding) -> str:
        text = binding.quantity.value.format(binding.input, binding.dimension)
        if binding.rest is not _ZERO:
            text = f"({text} - {self._number(binding.rest, nested=True)})"
        return text if binding.factor is _ONE else f"{text} // {self._number(binding.factor, nested=True)}"

    def _number(self, number: IntExpr, *, nested: bool = False) -> str:
        """An integer expression over the variables of symbols."""
        text = self.print_number(number)
        return f"({text})" if nested and not text.isidentifier() and not text.isdigit() else text

    def _float(self, value: FloatExpr) -> str:
        """The variable that holds a float of the call, which is computed in front of the first line that reads it."""
        if isinstance(value, FloatInput):
            return value.name
        if value not in self.floats:
            for part in (*shared_parts(value), value):  # a part that is read twice is computed once
                if part not in self.floats:
                    name = f"f{len(self.floats)}"
                    while name in self.names or name in self.floats.values():
                        name += "_"
                    self._emit(f"{name} = {self._float_text(part)}")
                    self.floats[part] = name
        return self.floats[value]

    def _float_text(self, value: FloatExpr, *, nested: bool = False) -> str:
        """What Python computes; parts that a variable holds already are read."""
        if not isinstance(value, FloatOf) or (nested and value in self.floats):
            return self._float(value)
        texts: list[str] = []
        for operand in value.operands:
            if isinstance(operand, FloatExpr):
                texts.append(self._float_text(operand, nested=True))
            elif isinstance(operand, IntExpr):
                texts.append(self._number(operand, nested=True))
            else:
                text = self._value(operand)
                texts.append(f"({text})" if text.startswith("-") else text)
        if value.function in INFIX and len(texts) == 2:
            text = f"{texts[0]} {INFIX[value.function]} {texts[1]}"
            return f"({text})" if nested else text
        return f"{self._target(value.function)}({', '.join(texts)})"

    def _tuple(self, sizes: Sequence[IntExpr]) -> str:
        return f"({', '.join(map(self._number, sizes))}{',' if len(sizes) == 1 else ''})"

    def _emit(self, text: str) -> None:
        self.body.append(f"    {text}")

    def _line(self, line: Line) -> None:
        if isinstance(line, Comment):
            self.body.extend(f"    # {part}" for part in line.text.splitlines())
        elif isinstance(line, Allocate):
            number = self.given.get(line.name)
            memory = self._allocation(line.layout) if number is None else self._given(number, line.layout)
            self._emit(f"{line.name} = {memory}")
            self.layouts[line.name] = line.layout
        elif isinstance(line, TakeOver):
            source = line.source
            self.layouts[line.name] = self.layouts[source]
            if line.layout is not None:
                source = self._view(line.source, line.layout)
                self.layouts[line.name] = line.layout
            self._emit(f"{line.name} = {source}; del {line.source}")
        elif isinstance(line, CopyInto):
            self._emit(f"{line.target}.copy_({line.source})")
        elif isinstance(line, Launch):
            arguments = [*line.buffers, *map(self._number, line.sizes), *map(self._float, line.floats)]
            self._emit(f"{line.kernel}({', '.join(arguments)})")
        elif isinstance(line, ExternCall):
            self._extern(line)
        elif isinstance(line, Free):
            self._emit(f"del {', '.join(line.names)}")
        elif isinstance(line, FreeInputs):
            if self.form.owned:
                self._emit(f"del {', '.join(line.names)}")
        else:
            values = "".join(f"{self._output(value)}, " for value in line.values).rstrip()
            self._emit(f"return [{values.rstrip(',')}]")

    def _device(self, device: torch.device) -> str:
        return self.devices.setdefault(device, re.sub(r"\W", "_", str(device)))

    def _allocation(self, layout: Layout) -> str:
        options = f"dtype={layout.dtype}, device={self._device(layout.device)}"
        text = f"empty_strided({self._tuple(layout.sizes)}, {self._tuple(layout.strides)}, {options})"
        if layout.strides == contiguous_strides(layout.sizes):
            text = f"empty({self._tuple(layout.sizes)}, {options})"
        large = self.program.large_memory.get(layout.device.type)
        if large is None or not layout.element_count.is_constant:
            return text
        is_large = int(layout.element_count) * layout.dtype.itemsize >= large.least_bytes
        return f"{self._target(large.prepare)}({text})" if is_large else text

    def _given(self, number: int, layout: Layout) -> str:
        """Memory that the caller brings."""
        sizes, strides = self._tuple(layout.sizes), self._tuple(layout.strides)
        return f"{self.memory}({number}, {sizes}, {strides}, {layout.dtype}, {self._device(layout.device)})"

    def _view(self, name: str, layout: Layout | OpaqueLayout) -> str:
        """The expression of a buffer seen through a layout; the shortest spelling that is a view."""
        if isinstance(layout, OpaqueLayout):
            return name
        base = self.layouts.get(name)
        if not isinstance(base, Layout):
            return f"as_strided({name}, {self._tuple(layout.sizes)}, {self._tuple(layout.strides)})"
        if _same_elements(base, layout):
            return name
        permutation = _permutation(base, layout)
        if permutation is not None:
            return f"{name}.t()" if permutation == (1, 0) else f"{name}.permute({', '.join(map(str, permutation))})"
        contiguous = base.strides == contiguous_strides(base.sizes) and base.offset == layout.offset
        if (
            contiguous
            and layout.strides == contiguous_strides(layout.sizes)
            and base.element_count == layout.element_count
        ):
            return f"{name}.view({self._tuple(layout.sizes)})"
        strided = f"as_strided({name}, {self._tuple(layout.sizes)}, {self._tuple(layout.strides)}"
        if layout.offset == 0:
            return f"{strided})"
        return f"{strided}, {name}.storage_offset() + {self._number(layout.offset)})"

    def _value(self, value: Any) -> str:
        if isinstance(value, BufferView):
            return self._view(value.buffer, value.layout)
        if isinstance(value, list | tuple):
            items = [self._value(item) for item in value]
            if isinstance(value, list):
                return f"[{', '.join(items)}]"
            return f"({', '.join(items)},)" if len(items) == 1 else f"({', '.join(items)})"
        if isinstance(value, slice):
            return f"slice({self._value(value.start)}, {self._value(value.stop)}, {self._value(value.step)})"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{k!r}: {self._value(v)}' for k, v in value.items())}}}"
        if isinstance(value, float):
            return repr(value) if math.isfinite(value) else f'float("{value}")'
        if isinstance(value, torch.device):
            return self._device(value)
        if value is None or isinstance(value, bool | int | str | complex):
            return repr(value)
        if isinstance(value, IntExpr):
            return self._number(value)
        if isinstance(value, BoolExpr):
            return self.print_number(value)
        if isinstance(value, FloatExpr):
            return self._float(value)
        if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
            return str(value)
        name = f"literal{len(self.externs)}"
        self.externs[name] = value
        return self._named(name, f'externs["{name}"]')

    def _named(self, name: str, expression: str) -> str:
        while self.bound.setdefault(name, expression) != expression:
            name += "_"
        return name

    def _target(self, target: Any) -> str:
        if isinstance(target, torch._ops.OpOverload):
            namespace, operator = target._schema.name.split("::")
            overload = target._schema.overload_name or "default"
            return self._named(f"{namespace}_{operator}_{overload}", f"torch.ops.{namespace}.{operator}.{overload}")
        name = re.sub(r"\W", "_", getattr(target, "__name__", type(target).__name__))
        while self.externs.setdefault(name, target) is not target:
            name += "_"
        return self._named(name, f'externs["{name}"]')

    def _extern(self, line: ExternCall) -> None:
        arguments = [self._value(a) for a in line.arguments]
        arguments.extend(f"{key}={self._value(value)}" for key, value in line.keywords.items())
        if line.out is not None:
            arguments.append(f"out={line.out}")
        if line.target is operator.getitem:
            call = f"{arguments[0]}[{arguments[1]}]"
        else:
            call = f"{self._target(line.target)}({', '.join(arguments)})"
        if line.out is not None:
            self._emit(call)
        elif len(line.results) == 1 and line.results[0][0] is None:
            self._emit(f"{line.results[0][1]} = {call}")
        elif len(line.results) == 1:
            self._emit(f"{line.results[0][1]} = {call}[{line.results[0][0]}]")
        else:
            self._emit(f"{line.call} = {call}")
            for position, name, _ in line.results:
                self._emit(f"{name} = {line.call}[{position}]")
            self._emit(f"del {line.call}")
        for binding in line.defines:
            self._emit(f"{self._symbol(binding.symbol)} = {self._bound_value(binding)}")
        for _, name, layout in line.results:
            self.layouts[name] = layout
            if name in self.restride and isinstance(layout, Layout):  # in memory of its own
                self._emit(f"{name} = restride({name}, {self._tuple(layout.strides)})")
            else:
                if name in self.clone:
                    self._emit(f"{name} = {name}.clone()")
                if not self.checked and isinstance(layout, Layout) and self._may_lie_otherwise(line, layout):
                    self._emit(f"{name} = laid_out({name}, {self._tuple(layout.strides)})")
            if self.checked and isinstance(layout, Layout):
                read = views_in([*line.arguments, *line.keywords.values()])
                views = ", ".join(dict.fromkeys(v.buffer for v in read if isinstance(v.layout, Layout)))
                owners = "None" if line.aliased or line.out else f"[{views}]"
                expected = f"{self._tuple(layout.sizes)}, {self._tuple(layout.strides)}, {layout.dtype}"
                self._emit(f"{name} = check_result({name!r}, {name}, {expected}, {owners})")

    def _may_lie_otherwise(self, line: ExternCall, layout: Layout) -> bool:
        """Whether a result may have other strides than in the first, checked call: at other sizes, or by a kernel that
        the operator chooses by the settings of the call."""
        if line.aliased or line.out is not None:
            return False
        if line.target is _ATTENTION:
            return True
        if not any(stride.free_symbols for stride in layout.strides):
            return False
        return getattr(line.target, "namespace", "") not in ("mkldnn", "mkl") and line.target is not restride

    def _output(self, value: OutputValue) -> str:
        if value.name is None:
            return self._value(value.literal)
        text = value.name if value.layout is None else self._view(value.name, value.layout)
        return f"{text}.clone()" if value.fresh else text


def _names_of(program: WrapperProgram) -> frozenset[str]:
    """Every name that the text binds, symbols apart."""
    names = {name for name in program.inputs if name is not None} | {*program.constants, *program.kernels}
    for line in program.lines:
        if isinstance(line, Allocate | TakeOver):
            names.add(line.name)
        elif isinstance(line, ExternCall):
            names.update((line.call, *(name for _, name, _ in line.results)))
    return frozenset(names)


def _same_elements(a: Layout, b: Layout) -> bool:
    """Whether two layouts are the same tensor; the stride of a dimension of size one says nothing, but is kept
    equal."""
    return a.sizes == b.sizes and a.strides == b.strides and a.offset == b.offset


def _permutation(base: Layout, view: Layout) -> tuple[int, ...] | None:
    """The order of the base's dimensions that gives the view, when it is one; None too when that is ambiguous."""
    if len(base.sizes) != len(view.sizes) or base.offset != view.offset:
        return None
    pairs = list(zip(base.sizes, base.strides))
    wanted = list(zip(view.sizes, view.strides))
    if len(set(pairs)) != len(pairs) or set(pairs) != set(wanted):
        return None
    return tuple(pairs.index(pair) for pair in wanted)
