"""TritonBackend: this package's implementation of the core's device protocol.

Found through the entry-point group `lampwork.device_backends` as `cuda`. It joins the parts: heuristics choose, the
kernel writer writes, the source is imported as a module of its own, launchers launch. Invariant: `generate` needs no
GPU and no driver.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
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
from lampwork_inductor_core.lowering.table import Unsupported
from lampwork_inductor_core.runtime.kernel_cache import cache_directory
from lampwork_inductor_core.schedule.split_reductions import ReductionShape
from lampwork_symshape import IntExpr, Printer, Symbol

from .device import DeviceProperties, properties_of
from .device_functions import INTERPRETED
from .heuristics import KernelShape, LaunchConfig, choose, fewest_rows, parts_of
from .index_width import IndexReach, IndexWidth
from .kernel import write_kernel
from .launcher import POINTER_TYPES, InterpretedLauncher, Launcher, LaunchSpec

_PROGRAM_COUNT = "lambda sizes: (lambda {0}: {1})(*sizes)"
_ANY_ROW = 1 << 40  # bytes
_AGAIN = 12  # operations a point


class TritonBackend:
    """Code generation for NVIDIA GPUs by Triton."""

    device_type = "cuda"

    def __init__(self, device: DeviceProperties | None = None) -> None:
        self._device = device

    @property
    def device(self) -> DeviceProperties:
        if self._device is None:
            self._device = properties_of(torch.device("cuda"))
        return self._device

    def graph_passes(self) -> Sequence[Any]:
        """None of its own yet."""
        return ()

    def lowerings(self) -> Mapping[Any, Callable[..., Any]]:
        """Operators whose scalar function Triton does not have: called, not generated."""
        return {torch.ops.aten.digamma.default: _left_to_the_library}

    def can_fuse(self, first: Any, second: Any) -> Verdict:
        """Whatever is legal fits: Triton programs hold any mix of segments."""
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
        config = choose(kernel, self.device)
        if config.shape is KernelShape.LOOPED and kernel.locals:
            # A row that does not fit in registers is computed again instead of kept.
            kernel = inline_locals(kernel)
        return write_kernel(kernel, config)

    def compile(self, sources: Sequence[KernelSource]) -> Mapping[str, Callable[..., None]]:
        """Import every source and bind a launcher; machine code is made at the first launch on a device."""
        launcher = InterpretedLauncher if INTERPRETED else Launcher
        return {s.name: launcher(getattr(import_source(s), s.name), launch_spec(s)) for s in sources}


def _left_to_the_library(*arguments: Any, **keywords: Any) -> Any:
    raise Unsupported("Triton has no such function")


def import_source(source: KernelSource) -> ModuleType:
    """The kernel's text as an imported module. Triton reads a function's source from its file, so there is one."""
    folder = cache_directory() / "triton_sources"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{source.name}.py"
    if not path.exists():
        _write_atomically(path, source.text)
    spec = importlib.util.spec_from_file_location(source.name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write_atomically(path: Path, text: str) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)


def launch_spec(source: KernelSource) -> LaunchSpec:
    """How to compile and launch a generated kernel."""
    config = source.launch["config"]
    programs = source.launch["programs"]
    reach = source.launch["reach"]
    assert isinstance(config, LaunchConfig) and isinstance(programs, IntExpr) and isinstance(reach, IndexReach)
    symbols = tuple(a.symbol for a in source.arguments if isinstance(a, SizeArgument))
    constants = {"X_BLOCK": config.x_block}
    if config.shape is not KernelShape.POINTWISE:
        constants["Y_BLOCK" if config.shape is KernelShape.TILED else "R_BLOCK"] = config.r_block
    return LaunchSpec(
        pointer_types=tuple(POINTER_TYPES[a.dtype] for a in source.arguments if isinstance(a, BufferArgument)),
        size_names=tuple(s.name for s in symbols),
        float_names=tuple(a.name for a in source.arguments if isinstance(a, FloatArgument)),
        constants=constants,
        warps=config.warps,
        stages=config.stages,
        checked=bool(source.launch["checked"]),
        program_count=_program_count(programs, symbols),
        dividing=cast("tuple[int, ...]", source.launch["dividing"]),
        fits_narrow=reach.fits() if reach.width is IndexWidth.BY_SIZES else None,
    )


def _program_count(programs: IntExpr, symbols: Sequence[Symbol]) -> Callable[[Sequence[int]], int]:
    if programs.is_constant:
        fixed = int(programs)
        return lambda _: fixed
    names = {s: f"n{position}" for position, s in enumerate(symbols)}
    count = Printer(lambda s: names[s])(programs)
    return cast("Callable[[Sequence[int]], int]", eval(_PROGRAM_COUNT.format(", ".join(names.values()), count)))
