"""compile_graph: the package's whole pipeline on one page.

    ATen graph -> passes -> hoist static parts -> lower -> schedule -> kernels -> device text and build -> wrapper
               -> CompiledGraph

Each stage is a pure function of the one before; each one's text is kept on request. Invariant: everything that depends
on a device is asked of the `DeviceBackend` of the buffer that a kernel writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from .artifacts import Recorder
from .backend import BackendNotFound, DeviceBackend, Verdict, find_backend
from .codegen.print_kernel import print_kernel
from .codegen.program import HostPlan, build_wrapper, plan_host
from .codegen.replay_facts import ReplayDecision, decide_replay
from .codegen.scheduled_kernel import KernelSource, ScheduledKernel
from .codegen.wrapper import WrapperProgram, print_wrapper
from .config import Config, ScheduleConfig
from .ir.buffer import ConstantBuffer, InputBuffer, LoweredGraph
from .ir.layout import Layout
from .ir.printer import print_graph
from .ir.verify import verify
from .lowering.graph import default_table, lower
from .lowering.table import Lowering, Unsupported
from .passes.hoist_static import Hoisted, StaticProgram, hoist_static
from .passes.pipeline import PASSES, run_passes
from .passes.rewriting import PassContext
from .runtime.compiled_graph import CompiledGraph, Form, InputSpec, Repairs, WrapperParts
from .runtime.static_cache import StaticCache
from .schedule.fusion import FusedNode
from .schedule.new_values import NEW_VALUES
from .schedule.scheduler import Tuned, schedule
from .schedule.split_reductions import ReductionShape, split_reductions

GraphBackend = Callable[[torch.fx.GraphModule, Sequence[Any]], Callable[..., Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What a caller may choose for one compile."""

    config: Config = field(default_factory=Config.from_environment)
    static_inputs: frozenset[int] = frozenset()
    """Positions of inputs that are parameters or module buffers, beside placeholders that say so
    (`meta["static_input"]`)."""
    check_inputs: bool = True
    """Verify sizes, strides, dtype and device of inputs at each call. Off where the caller's guards hold already."""
    weights_change: bool = False
    """An optimizer changes parameters between calls, as in training: nothing that is made of static inputs is kept or
    folded, packed weights and folded normalisations included. What is made of the graph's own constants still is. The
    memory format of convolutions stays as it is: a forward graph returns most of what it computes, in given strides."""
    cache_static: bool = True
    """Compute what depends on static inputs only once, and keep it while they do not change."""
    keep_artifacts: bool = False
    """Keep the text of every stage in `CompiledGraph.artifacts`."""
    backends: Mapping[str, DeviceBackend] = field(default_factory=dict)
    """Device backends by device type; those not named are found through the entry-point group."""


class Backends:
    """The device backends of one compile, found when first needed."""

    def __init__(self, given: Mapping[str, DeviceBackend]) -> None:
        self._found: dict[str, DeviceBackend] = dict(given)

    def __getitem__(self, device: torch.device) -> DeviceBackend:
        """The backend of a device. Raises BackendNotFound."""
        backend = self._found.get(device.type)
        if backend is None:
            backend = self._found[device.type] = find_backend(device)
        return backend

    def tuned(self, config: ScheduleConfig) -> Tuned:
        """The schedule's configuration as each device has it."""
        made: dict[str, ScheduleConfig] = {}

        def of(device: torch.device) -> ScheduleConfig:
            if device.type not in made:
                tune: Callable[[ScheduleConfig], ScheduleConfig] | None = getattr(self[device], "tune_schedule", None)
                made[device.type] = config if tune is None else tune(config)
            return made[device.type]

        return of

    def parts_of(self, device: torch.device, shape: ReductionShape) -> int:
        """In how many parts a device wants a reduction."""
        choose: Callable[[ReductionShape], int] | None = getattr(self[device], "split_reduction", None)
        return 1 if choose is None else choose(shape)

    def of_graph(self, graph: torch.fx.GraphModule) -> list[DeviceBackend]:
        """The backends of all devices with tensors of some size in the graph; at least one. Raises BackendNotFound.

        Lone numbers on a second device (a CPU scalar in a graph on an accelerator) need no backend until a kernel would
        compute them.
        """
        main: dict[str, torch.device] = {}
        small: dict[str, torch.device] = {}
        for node in graph.graph.nodes:
            value = node.meta.get("val")
            for item in value if isinstance(value, list | tuple) else (value,):
                if isinstance(item, torch.Tensor):
                    (main if item.dim() > 0 else small).setdefault(item.device.type, item.device)
        found = [self[device] for device in (main or small).values()]
        for kind, device in small.items():
            if kind not in main and main:
                try:
                    found.append(self[device])
                except BackendNotFound:
                    continue
        return found


def compile_graph(
    graph: torch.fx.GraphModule, example_inputs: Sequence[Any], *, options: CompileOptions | None = None
) -> CompiledGraph:
    """Compile a functional ATen graph.

    `example_inputs`: real or fake tensors (or numbers), one a placeholder. `graph.meta["new_values"]` may say which
    results are new values of inputs: such a one may be written into the input, which is then the result. Raises
    BackendNotFound for a device without a backend, whatever the backend's build raises (no compiler found, say), and
    LoweringError for a malformed graph.
    """
    options = options or CompileOptions()
    config, recorder, backends = options.config, Recorder(options.keep_artifacts), Backends(options.backends)
    if options.weights_change:
        config = replace(config, channels_last=False)
    new_values, passing = graph.meta.get(NEW_VALUES, {}), _passing_inputs(graph) if options.weights_change else None
    graph = _own_copy(graph, example_inputs, options)
    recorder.keep("aten", lambda: graph.print_readable(print_output=False))
    used, context = backends.of_graph(graph), PassContext(config)
    graph = run_passes(graph, context, (*PASSES, *(item for backend in used for item in backend.graph_passes())))
    recorder.keep("passes", lambda: graph.print_readable(print_output=False))
    hoisted = hoist_static(graph, context) if options.cache_static else Hoisted(graph, None)
    if hoisted.program is not None:
        static_text = str(hoisted.program.graph)
        recorder.keep("static", lambda: static_text)
    lowered = lower(hoisted.graph, lowering_table(used), config)
    recorder.keep("lowered", lambda: print_graph(lowered))
    arguments = [buffer for buffer in lowered.buffers if isinstance(buffer, InputBuffer)]
    handed_over = None if passing is None else frozenset(b.name for b in arguments if b.position in passing)
    lowered = split_reductions(lowered, backends.parts_of)
    if config.verify:
        verify(lowered)
    tuned = backends.tuned(config.schedule)
    scheduled = schedule(lowered, config.schedule, lambda a, b: _can_fuse(backends, a, b), tuned)
    recorder.keep("schedule", lambda: str(scheduled))
    host = plan_host(lowered, scheduled, config.schedule, new_values, handed_over, tuned)
    recorder.keep("kernels", lambda: "\n".join(print_kernel(kernel) for kernel in host.kernels()))
    names, kernels = _build_kernels(host, backends, recorder)
    first_kept = len(example_inputs)
    kept = range(first_kept, first_kept + (len(hoisted.program.names) if hoisted.program is not None else 0))
    large = {b.device_type: m for b in used if (m := getattr(b, "large_memory", None)) is not None}
    program = build_wrapper(host, names, shared_inputs=kept, large_memory=large)
    parts = _wrapper_parts(program, lowered, kernels)
    recorder.keep("wrapper", lambda: parts.write(Repairs(), Form()))
    specs = [s for s in _input_specs(lowered) if s.position < first_kept] if options.check_inputs else ()
    replay = _decide_replay(used, host, program, hoisted.graph, options)
    return CompiledGraph(
        parts,
        static=_static_cache(hoisted.program),
        specs=specs,
        artifacts=recorder.artifacts,
        notes=(*lowered.notes, *replay.notes),
        replay=replay.planned,
    )


def graph_backend(options: CompileOptions | None = None) -> GraphBackend:
    """`compile_graph` with the calling convention of a `torch.compile` backend, for functional ATen graphs."""
    chosen = options or CompileOptions(check_inputs=False)

    def backend(graph: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Sequence[Any]]:
        return compile_graph(graph, example_inputs, options=chosen)

    return backend


def _can_fuse(backends: Backends, a: FusedNode, b: FusedNode) -> Verdict:
    return backends[a.device].can_fuse(a, b)


def _own_copy(
    graph: torch.fx.GraphModule, example_inputs: Sequence[Any], options: CompileOptions
) -> torch.fx.GraphModule:
    """A copy that passes may change, with a fake value on every node and static inputs marked."""
    copied = torch.fx.Graph()
    copied.output(copied.graph_copy(graph.graph, {}))
    own = torch.fx.GraphModule(graph, copied, "AtenGraph")
    written = frozenset(
        graph.meta.get(NEW_VALUES, {}).values()
    )  # what is made of them is not the same in the next call
    if any("val" not in n.meta for n in copied.nodes if n.op in ("placeholder", "call_function")):
        given = [x.fake_mode for x in example_inputs if isinstance(x, FakeTensor)]
        mode = given[0] if given else FakeTensorMode(allow_non_fake_inputs=True)
        FakeTensorProp(own, mode).propagate(*example_inputs)
    for position, node in enumerate(n for n in copied.nodes if n.op == "placeholder"):
        if position in options.static_inputs:
            node.meta["static_input"] = True
        if position in written:
            node.meta["static_input"] = False
        given = example_inputs[position] if position < len(example_inputs) else None
        if isinstance(given, torch.Tensor) and given.is_inference():
            node.meta["static_input"] = False  # has no version: what is made of it could never be kept
        if options.weights_change:
            node.meta["static_input"] = False
    return own


def _passing_inputs(graph: torch.fx.GraphModule) -> frozenset[int]:
    """The positions of inputs that live no longer than the call: all but parameters and buffers."""
    placeholders = graph.graph.find_nodes(op="placeholder")
    return frozenset(i for i, node in enumerate(placeholders) if not node.meta.get("static_input"))


def _static_cache(program: StaticProgram | None) -> StaticCache | None:
    """The kept values of the hoisted part; it runs eagerly."""
    return None if program is None else StaticCache(program, program.positions)


def lowering_table(backends: Sequence[DeviceBackend]) -> Mapping[Any, Lowering]:
    """The core's lowerings with the devices' own on top, each for nodes on its device only."""
    table = default_table()
    for backend in backends:
        for overload, lowering in backend.lowerings().items():
            table[overload] = _for_device(backend.device_type, lowering, table.get(overload))
    return table


def _for_device(device_type: str, lowering: Lowering, otherwise: Lowering | None) -> Lowering:
    def choose(context: Any, *arguments: Any, **keywords: Any) -> Any:
        value = context.meta[0] if isinstance(context.meta, list | tuple) and context.meta else context.meta
        if isinstance(value, torch.Tensor) and value.device.type == device_type:
            return lowering(context, *arguments, **keywords)
        if otherwise is None:
            raise Unsupported(f"no lowering for this device; {device_type} has one")
        return otherwise(context, *arguments, **keywords)

    return choose


def _build_kernels(
    host: HostPlan, backends: Backends, recorder: Recorder
) -> tuple[dict[ScheduledKernel, str], dict[str, Callable[..., None]]]:
    """Text and callables: every different kernel once, all kernels of a device in one build."""
    names: dict[ScheduledKernel, str] = {}
    sources: dict[str, dict[str, KernelSource]] = {}
    for kernel, device in host.kernels().items():
        source = backends[device].generate(kernel)
        names[kernel] = source.name
        sources.setdefault(device.type, {})[source.name] = source
    kernels: dict[str, Callable[..., None]] = {}
    for device_type, of_device in sources.items():
        texts = [source.text for source in of_device.values()]
        recorder.keep(f"{device_type} code", lambda texts=texts: "\n\n".join(texts))
        kernels.update(backends[torch.device(device_type)].compile(list(of_device.values())))
    return names, kernels


def _decide_replay(
    used: Sequence[DeviceBackend],
    host: HostPlan,
    program: WrapperProgram,
    graph: torch.fx.GraphModule,
    options: CompileOptions,
) -> ReplayDecision:
    """How the graph is replayed, if one of its devices can. Training graphs are not: their results are kept and freed
    one by one until the backward pass, and their parameters change."""
    able = next((r for backend in used if (r := getattr(backend, "replays", None)) is not None), None)
    if able is None:
        return ReplayDecision(None)
    if not options.config.replay:
        return ReplayDecision(None, (f"no {able.noun}: switched off",))
    if options.weights_change:
        return ReplayDecision(None, (f"no {able.noun}: the graph is part of a training step",))
    return decide_replay(able, host, program, graph)


def _wrapper_parts(
    program: WrapperProgram, lowered: LoweredGraph, kernels: Mapping[str, Callable[..., None]]
) -> WrapperParts:
    constants = {b.name: b.value for b in lowered.buffers if isinstance(b, ConstantBuffer)}
    externs = print_wrapper(program).externs

    def write(repairs: Repairs, form: Form) -> str:
        return print_wrapper(program, form, restride=repairs.restride, clone=repairs.clone).text

    return WrapperParts(write, kernels, {name: constants[name] for name in program.constants}, externs)


def _input_specs(lowered: LoweredGraph) -> tuple[InputSpec, ...]:
    specs: list[InputSpec] = []
    for buffer in lowered.buffers:
        if isinstance(buffer, InputBuffer) and isinstance(buffer.layout, Layout):
            layout = buffer.layout
            sizes = tuple(int(s) if s.is_constant else None for s in layout.sizes)
            strides = tuple(int(s) if s.is_constant else None for s in layout.strides)
            specs.append(InputSpec(buffer.position, sizes, strides, layout.dtype, layout.device))
    return tuple(specs)
