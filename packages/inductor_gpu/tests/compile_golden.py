"""Compile the kernels of the golden programs to machine code for three generations of cards, with no GPU. Run by
test_golden in a process of its own, since Triton's interpreter is off here. Prints one line a kernel and capability:
the program, the capability, the bytes of the cubin, and the bits of the widest access."""

from compile_for_hopper import widest_access
from golden_programs import PROGRAMS, RecordingBackend, compiled
from lampwork_inductor_gpu.backend import import_source, launch_spec
from lampwork_inductor_gpu.launcher import Variant, compile_kernel
from triton.backends.compiler import GPUTarget

if __name__ == "__main__":
    for program, inputs in PROGRAMS.items():
        backend = RecordingBackend()
        compiled(program, inputs(), backend)
        for source in backend.sources.values():
            function = getattr(import_source(source), source.name)
            for capability in (80, 90, 100):
                target = GPUTarget("cuda", capability, 32)
                made = compile_kernel(function, launch_spec(source), target, Variant(aligned=True))
                bits = widest_access(made.asm["ptx"])
                print(program.__name__, capability, len(made.asm["cubin"]), bits)
