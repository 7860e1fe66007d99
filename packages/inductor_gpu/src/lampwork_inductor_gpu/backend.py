"""TritonBackend: this package's implementation of the core's device protocol.

Found through the entry-point group `lampwork.device_backends` as `cuda`. It joins the parts: heuristics choose, the
kernel writer writes, processes compile, launchers launch. Invariants: `generate` needs no GPU and no driver; `compile`
waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, cast

import torch
from lampwork_inductor_core.backend import Verdict
from lampwork_inductor_core.codegen.kernel import inline_locals
from lampwork_inductor_core.codegen.scheduled_kernel import (
    BufferArgument,
    FloatArgument,
    KernelSource,
    ScheduledKernel,
    SizeArgument,
)
from lampwork_inductor_core.config import ScheduleConfig
from lampwork_inductor_core.lowering.table import LeftToLibrary, Unsupported
from lampwork_inductor_core.passes.rewriting import Pass
from lampwork_inductor_core.runtime.kernel_cache import cache_directory
from lampwork_inductor_core.runtime.replay import Replays
from lampwork_inductor_core.schedule.split_reductions import ReductionShape
from lampwork_symshape import IntExpr, Printer, Symbol

from .attention_kernels import attention_pass
from .compile_job import Constant
from .contraction import Contraction
from .contraction_choice import MatrixChoice, blocks_for, follows, is_contraction
from .contraction_kernel import write_contraction
from .cuda_graphs import REPLAYS
from .depthwise import convolve_channels, lay_out_weights
from .device import DeviceProperties, properties_of
from .few_channels import pad_channels
from .heuristics import KernelShape, LaunchConfig, choose, fewest_rows, parts_of
from .index_width import IndexReach, IndexWidth
from .interpreter import INTERPRETED
from .kernel import write_kernel
from .kernel_codes import KernelCodes, KernelGroup
from .kernel_compiler import KernelCompiler, compiler_of_process
from .kernel_file import import_kernel
from .launch_spec import POINTER_TYPES, LaunchSpec
from .launcher import Launcher
from .library_epilogues import FUSED_CALLS, add_biases_behind, fuse_convolutions, fuse_linears
from .matrix_operands import align_rows, multiply_into_float
from .patch_convolutions import multiply_patches
from .pooling import lowerings as lowerings_of_pooling
from .training import recompute_cost, rewrite_joint
from .window import Window
from .window_choice import is_window, strips_for
from .window_kernel import write_window

if INTERPRETED:
    from .interpreted_launcher import InterpretedLauncher
else:
    InterpretedLauncher = None  # imports triton, which a process that finds its kernels compiled does not need

_PROGRAM_COUNT = "lambda sizes: (lambda {0}: {1})(*sizes)"
_ANY_ROW = 1 << 40  # bytes
_AGAIN = 12  # operations a point


class TritonBackend:
    """Code generation for NVIDIA GPUs by Triton."""

    device_type = "cuda"
    replays: Replays | None = None if INTERPRETED else REPLAYS

    def __init__(self, device: DeviceProperties | None = None, compiler: KernelCompiler | None = None) -> None:
        self._device = device
        self._compiler = compiler

    @property
    def device(self) -> DeviceProperties:
        if self._device is None:
            self._device = properties_of(torch.device("cuda"))
        return self._device

    @property
    def compiler(self) -> KernelCompiler:
        if self._compiler is None:
            self._compiler = compiler_of_process(cache_directory(), self.device.architecture)
        return self._compiler

    def graph_passes(self) -> Sequence[Pass]:
        """What libraries compute, in the kernel of a library that is best at it."""
        return (
            ("choose_attention", attention_pass(self.device)),
            ("fuse_convolutions", fuse_convolutions),
            ("multiply_patches", multiply_patches),
            ("pad_channels", pad_channels),
            ("lay_out_weights", lay_out_weights),
            ("add_biases_behind", add_biases_behind),
            ("fuse_linears", fuse_linears),
            ("align_rows", align_rows),
            ("multiply_into_float", multiply_into_float),
        )

    def rewrite_joint(self, graph: torch.fx.GraphModule, forward: frozenset[torch.fx.Node], results: int) -> None:
        """What both passes of a training step share: memory formats, kernels of attention."""
        rewrite_joint(graph, forward, results, self.device)

    def recompute_cost(self, node: torch.fx.Node) -> float:
        """What computing a value again in the backward pass costs, in bytes kept."""
        return recompute_cost(node)

    def lowerings(self) -> Mapping[Any, Callable[..., Any]]:
        """Products of matrices that libraries are slow at; and operators whose function Triton does not have."""
        if InterpretedLauncher is None:
            self.compiler.start()  # what compiles kernels is up by the time that there are some
        fused = dict.fromkeys(FUSED_CALLS, _left_to_the_library)
        return {
            torch.ops.aten.digamma.default: _without_text,
            **fused,
            **MatrixChoice(self.device).lowerings(),
            **lowerings_of_pooling(),
            torch.ops.aten.convolution.default: convolve_channels,  # and what MatrixChoice has for it
        }

    def can_fuse(self, first: Any, second: Any) -> Verdict:
        """Whatever is legal fits: Triton programs hold any mix of segments. Contractions and windows take what follows
        them."""
        for one, other in ((first, second), (second, first)):
            if is_window(one) and not follows(other, one):
                return Verdict(False, "a window shares its kernel only with what is computed from it")
            if is_contraction(one) and not follows(other, one):
                return Verdict(False, "a product of matrices shares its kernel only with what is computed from it")
        return Verdict(True)

    def tune_schedule(self, config: ScheduleConfig) -> ScheduleConfig:
        """Rows live in registers or are computed again, never in memory; arithmetic is nearly free."""
        rows = fewest_rows(self.device)
        return replace(config, local_row_bytes=_ANY_ROW, recompute_operations=_AGAIN, parallel_rows=rows)

    def split_reduction(self, shape: ReductionShape) -> int:
        """In how many parts a reduction runs."""
        return parts_of(shape, self.device)

    def generate(self, kernel: ScheduledKernel) -> KernelSource:
        """The Triton text of a kernel."""
        contraction = Contraction.of(kernel)
        if contraction is not None:
            return write_contraction(kernel, contraction, blocks_for(contraction, self.device))
        window = Window.of(kernel)
        if window is not None:
            return write_window(kernel, window, strips_for(window, self.device))
        config = choose(kernel, self.device)
        if config.shape is KernelShape.LOOPED and kernel.locals:
            # A row that does not fit in registers is computed again instead of kept.
            kernel = inline_locals(kernel)
        return write_kernel(kernel, config)

    def compile(self, sources: Sequence[KernelSource]) -> Mapping[str, Callable[..., None]]:
        """Bind a launcher to every source, and have machine code made; who launches first waits for it."""
        if InterpretedLauncher is not None:
            return {s.name: InterpretedLauncher(getattr(import_source(s), s.name), launch_spec(s)) for s in sources}
        compiler = self.compiler
        codes = {s.name: KernelCodes(s.name, s.text, launch_spec(s), compiler) for s in sources}
        group = KernelGroup(tuple(codes.values()))
        group.begin(self.device.architecture)
        return {name: Launcher(kernel, group) for name, kernel in codes.items()}


def _without_text(*arguments: Any, **keywords: Any) -> Any:
    raise Unsupported("Triton has no such function")


def _left_to_the_library(*arguments: Any, **keywords: Any) -> Any:
    raise LeftToLibrary("a pass chose the library's kernel")


def import_source(source: KernelSource) -> ModuleType:
    """The kernel's text as an imported module."""
    return import_kernel(source.name, source.text, cache_directory() / "triton_sources")


def launch_spec(source: KernelSource) -> LaunchSpec:
    """How to compile and launch a generated kernel."""
    config = source.launch["config"]
    programs = source.launch["programs"]
    reach = source.launch["reach"]
    assert isinstance(config, LaunchConfig) and isinstance(programs, IntExpr) and isinstance(reach, IndexReach)
    symbols = tuple(a.symbol for a in source.arguments if isinstance(a, SizeArgument))
    return LaunchSpec(
        pointer_types=tuple(POINTER_TYPES[a.dtype] for a in source.arguments if isinstance(a, BufferArgument)),
        size_names=tuple(s.name for s in symbols),
        float_names=tuple(a.name for a in source.arguments if isinstance(a, FloatArgument)),
        constants=cast("Mapping[str, Constant]", source.launch["constants"]),
        warps=config.warps,
        stages=config.stages,
        checked=bool(source.launch["checked"]),
        program_count=_program_count(programs, symbols),
        dividing=cast("tuple[int, ...]", source.launch["dividing"]),
        fits_narrow=reach.fits() if reach.width is IndexWidth.BY_SIZES else None,
        block_reads=cast("tuple[int, ...]", source.launch["block_reads"]),
        options=cast("Mapping[str, Any]", source.launch.get("options", {})),
    )


def _program_count(programs: IntExpr, symbols: Sequence[Symbol]) -> Callable[[Sequence[int]], int]:
    if programs.is_constant:
        fixed = int(programs)
        return lambda _: fixed
    names = {s: f"n{position}" for position, s in enumerate(symbols)}
    count = Printer(lambda s: names[s])(programs)
    return cast("Callable[[Sequence[int]], int]", eval(_PROGRAM_COUNT.format(", ".join(names.values()), count)))
