"""A contraction as Triton source text: tiles of a product of matrices, with what follows it in the same kernel.

From `ScheduledKernel` to `KernelSource`, beside the kernel writer, whose text for values it uses. As many programs as
the card has multiprocessors walk over the tiles; operands that are matrices in memory are read in blocks by the copy
engine, others element by element. Invariant: a tile beyond the end reads zeros and stores nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from lampwork_inductor_core.codegen.scheduled_kernel import BufferArgument, Forwarded, KernelSource, ScheduledKernel
from lampwork_inductor_core.ir.loop_body import Load, Masked, Node, walk
from lampwork_symshape import IntExpr

from .contraction import Block, Contraction, block_of
from .heuristics import LaunchConfig
from .indexing import FlatSpace, flatten
from .kernel import TritonKernelWriter, finish_kernel
from .ops import TRITON_TYPES
from .scope import Lanes, Scope

_GROUP = 8  # tiles of rows that take turns at the same columns, which the cache then still has


def write_contraction(kernel: ScheduledKernel, contraction: Contraction, config: LaunchConfig) -> KernelSource:
    """The Triton source of a contraction."""
    return finish_kernel(ContractionWriter(kernel, contraction, config))


class ContractionWriter(TritonKernelWriter):
    """Writes one contraction. Use `write_contraction`."""

    def __init__(self, kernel: ScheduledKernel, contraction: Contraction, config: LaunchConfig) -> None:
        super().__init__(kernel, config)
        assert self.spaces.inner is not None
        self.contraction = contraction
        self.inner: FlatSpace = self.spaces.inner
        self.left = block_of(contraction.left, self.x, self.inner)
        self.right = block_of(contraction.right, self.r, self.inner)

    def constants(self) -> dict[str, int]:
        return {**super().constants(), "K_BLOCK": self.config.k_block}

    def block_reads(self) -> tuple[int, ...]:
        names = [b.argument for b in (self.left, self.right) if b is not None]
        positions = {a.name: k for k, a in enumerate(self.kernel.arguments) if isinstance(a, BufferArgument)}
        return tuple(positions[name] for name in names)

    def write(self) -> str:
        """The body's text, without the header."""
        for name, block, kept, size in (
            ("left", self.left, self.x, "X_BLOCK"),
            ("right", self.right, self.r, "Y_BLOCK"),
        ):
            if block is not None:
                self._emit_descriptor(name, block, kept, size)
        rows, columns = self._tiles(self.x.size, self.config.x_block), self._tiles(self.r.size, self.config.r_block)
        tiles = self.printer(rows * columns)
        self.line(f"for tile in tl.range(tl.program_id(0), {tiles}, {self.config.programs}, flatten=True):")
        self.indent += 1
        self._emit_tile(rows, columns)
        total = self._emit_sum()
        self._emit_lanes(of_rows=self.left is not None, of_columns=self.right is not None)
        scope = Scope()
        stage, accumulate = self.contraction.stage, self.contraction.stage.accumulate
        assert accumulate is not None
        if accumulate.result != accumulate.accumulate:
            self.line(f"{total} = {total}.to({TRITON_TYPES[accumulate.result]})")
        if stage.comment:
            self.comments.add(stage.comment)
        self.stage_names[0] = total
        self._store(stage, total, scope, reduced=False)
        for segment, first in self._numbered():
            if first:
                self._emit_stages(segment, first, scope)
        return "\n".join(self.lines) + "\n"

    def _tiles(self, size: IntExpr, block: int) -> IntExpr:
        return (size + (block - 1)) // block

    def _emit_descriptor(self, name: str, block: Block, kept: FlatSpace, size: str) -> None:
        base = block.argument if int(block.offset) == 0 else f"{block.argument} + {block.offset}"
        shape, blocks = [self.printer(kept.size), self.printer(self.inner.size)], [size, "K_BLOCK"]
        if not block.across:
            shape.reverse()
            blocks.reverse()
        self.line(
            f"{name} = tl.make_tensor_descriptor("
            f"{base}, [{', '.join(shape)}], [{block.pitch}, 1], [{', '.join(blocks)}])"
        )

    def _emit_tile(self, rows: IntExpr, columns: IntExpr) -> None:
        """Which tile it is: down a group of rows first."""
        group = self._factor(_GROUP * columns)
        down = self.printer(rows)
        self.line(f"first = tile // {group} * {_GROUP}")
        self.line(f"within = tile % {group}")
        self.line(f"height = tl.minimum({down} - first, {_GROUP})")
        self.line("row = (first + within % height) * X_BLOCK")
        self.line("column = within // height * Y_BLOCK")

    def _emit_sum(self) -> str:
        """The loop over the contracted index; the name of the total."""
        if self.contraction.stage.comment:
            self.line(f"# {self.contraction.stage.comment}")
        total = "total"
        self.line(f"{total} = tl.zeros([X_BLOCK, Y_BLOCK], tl.float32)")
        self._emit_lanes(of_rows=self.left is None, of_columns=self.right is None)
        self.line(f"for k in range(0, {self.printer(self.inner.size)}, K_BLOCK):")
        self.indent += 1
        first, second = self._operand("left", self.left), self._operand("right", self.right)
        self.line(f"{total} = tl.dot({first}, {second}, {total})")
        self.indent -= 1
        return total

    def _operand(self, name: str, block: Block | None) -> str:
        at = "row" if name == "left" else "column"
        if block is None:
            return self._gathered(name)
        position = f"[{at}, k]" if block.across else f"[k, {at}]"
        # of the left one the contracted index runs across, of the right one down
        turned = block.across != (name == "left")
        return f"{name}.load({position}){'.T' if turned else ''}"

    def _gathered(self, name: str) -> str:
        """An operand element by element; zeros beyond the end of the sum."""
        is_left = name == "left"
        down = "[None, :]" if is_left else "[:, None]"
        flat = "r" if is_left else "q"
        inner = flatten(flat, self.contraction.inner)
        self.line(f"{flat} = k + tl.arange(0, K_BLOCK){down}{self.cast}")
        masked = not self._divides(inner.size, self.config.k_block)
        if masked:
            self.line(f"{flat}_mask = {flat} < {self.printer(inner.size)}")
        value = self.contraction.left if is_left else self.contraction.right
        with self._over(*((self.x, inner) if is_left else (inner, self.r)), masked):
            found = self._value(value, Scope())
            held = self._lanes_of(value)
            shape = "[X_BLOCK, K_BLOCK]" if is_left else "[K_BLOCK, Y_BLOCK]"
            mask = self._mask(Lanes(True, True))
        text = found if held == Lanes(True, True) else f"tl.broadcast_to({found}, {shape})"
        if mask and not _is_zero_beyond(value):  # what stands in lanes beyond the end would be summed
            text = f"tl.where({mask}, {text}, 0.0).to({TRITON_TYPES[self.contraction.dtype]})"
        return text

    @contextmanager
    def _over(self, x: FlatSpace, r: FlatSpace, masked: bool) -> Generator[None, None, None]:
        """Values are written over these two spaces meanwhile."""
        before = self.x, self.r, self.symbols, self._inner_masked
        self.x, self.r, self._inner_masked = x, r, masked
        self.symbols = {**x.dimensions, **r.dimensions}
        yield
        self.x, self.r, self.symbols, self._inner_masked = before

    _inner_masked = False

    def _mask(self, lanes: Lanes, *extra: str) -> str:
        parts = list(extra)
        for is_over, space in ((lanes.x, self.x), (lanes.r, self.r)):
            block = {"x": self.config.x_block, "y": self.config.r_block}.get(space.name)
            masked = self._inner_masked if block is None else not self._divides(space.size, block)
            if is_over and masked:
                parts.append(f"{space.name}_mask")
        return " & ".join(parts)

    def _emit_lanes(self, *, of_rows: bool, of_columns: bool) -> None:
        """The elements of the tile: in front of the sum for an operand that is gathered, else for what follows it."""
        if of_rows:
            self.line(f"x = row + tl.arange(0, X_BLOCK)[:, None]{self.cast}")
            if self.x_masked:
                self.line(f"x_mask = x < {self.printer(self.x.size)}")
        if of_columns:
            self.line(f"y = column + tl.arange(0, Y_BLOCK)[None, :]{self.cast}")
            if self.r_masked:
                self.line(f"y_mask = y < {self.printer(self.r.size)}")

    def _lanes_of(self, root: Node) -> Lanes:
        if any(isinstance(n, Forwarded) and n.stage == 0 for n in walk(root)):
            return Lanes(True, True)
        return super()._lanes_of(root)


def _is_zero_beyond(value: Node) -> bool:
    """Whether lanes that are masked out of a value hold zero: loads give it there."""
    return isinstance(value, Load) or (isinstance(value, Masked) and value.otherwise == 0)
