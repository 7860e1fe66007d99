"""Compile the kernels of the golden programs to machine code for three generations of cards, with no GPU. Run by
test_golden in a process of its own, since Triton's interpreter is off here. Prints one line a kernel and capability:
the program, the capability, the bytes of the cubin, and the bits of the widest access."""

from compile_for_hopper import widest_access
from golden_programs import PROGRAMS, RecordingBackend, compiled
from lampwork_inductor_core.runtime.kernel_cache import cache_directory
from lampwork_inductor_gpu.backend import launch_spec
from lampwork_inductor_gpu.kernel_compiler import KernelCompiler
from lampwork_inductor_gpu.launch_spec import Variant
from lampwork_inductor_gpu.triton_compile import compiled_kernel


class _NoProcesses(KernelCompiler):
    """Compiles nothing ahead."""

    def __init__(self) -> None:
        pass

    def start(self) -> None:
        pass


class _OnlyText(RecordingBackend):
    """Keeps the sources; nothing runs."""

    @property
    def compiler(self) -> KernelCompiler:
        return _NoProcesses()

    def compile(self, sources):
        self.sources.update((s.name, s) for s in sources)
        return {s.name: None for s in sources}


if __name__ == "__main__":
    for program, inputs in PROGRAMS.items():
        backend = _OnlyText()
        compiled(program, inputs(), backend)
        for source in backend.sources.values():
            for capability in (80, 90, 100):
                job = launch_spec(source).job(source.name, source.text, Variant(aligned=True), capability)
                made = compiled_kernel(job, cache_directory() / "triton_sources")
                bits = widest_access(made.asm["ptx"])
                print(program.__name__, capability, len(made.asm["cubin"]), bits)
