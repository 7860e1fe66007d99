"""A device backend that some other package brings is found through its entry point, and a whole graph runs on it.

The package is made here, with metadata as pip would install it, and tried in a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

DEVICE = '''
"""A complete device in a few lines: kernels are interpreted on torch tensors."""
import torch
from lampwork_inductor_core.backend import Verdict
from lampwork_inductor_core.codegen.interpret_kernel import interpret_kernel
from lampwork_inductor_core.codegen.print_kernel import print_kernel
from lampwork_inductor_core.codegen.scheduled_kernel import KernelSource


class ToyBackend:
    device_type = "cpu"
    ran = []

    def __init__(self):
        self.kernels = {}

    def graph_passes(self):
        return ()

    def lowerings(self):
        return {}

    def can_fuse(self, first, second):
        return Verdict(True)

    def generate(self, kernel):
        name = f"{kernel.name}_{len(self.kernels)}"
        self.kernels[name] = kernel
        return KernelSource(name, print_kernel(kernel), kernel.arguments, {})

    def compile(self, sources):
        def launcher(name):
            def launch(*tensors):
                ToyBackend.ran.append(name)
                interpret_kernel(self.kernels[name], tensors)
            return launch
        return {source.name: launcher(source.name) for source in sources}
'''

PROGRAM = """
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from lampwork_inductor_core import compile_graph
from toy_device import ToyBackend

def f(x):
    return [torch.softmax(x * 2, -1)]

x = torch.randn(4, 5)
graph = compile_graph(make_fx(f, tracing_mode="fake")(x), [x])
torch.testing.assert_close(graph(x)[0], f(x)[0])
assert len(ToyBackend.ran) == 1, ToyBackend.ran
print("ran on the toy device:", *ToyBackend.ran)
"""


def test_a_device_of_another_package(tmp_path: Path) -> None:
    (tmp_path / "toy_device.py").write_text(DEVICE)
    metadata = tmp_path / "toy_device-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-device\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[lampwork.device_backends]\ncpu = toy_device:ToyBackend\n")
    environment = dict(os.environ, PYTHONPATH=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("ran on the toy device: ")
