"""A graph backend that some other package registers for `torch.compile` is found by its name."""

import os
import subprocess
import sys
from pathlib import Path

import lampwork_capture
import pytest

BACKEND = """
graphs = []

def counting(graph, example_inputs):
    graphs.append((graph, len(example_inputs)))
    return graph.forward
"""

PROGRAM = """
import torch, lampwork_capture, counting_backend
f = lampwork_capture.optimize("counting", fullgraph=True)(lambda x, y: torch.relu(x @ y) + 1)
x = torch.randn(3, 3)
assert torch.equal(f(x, x.t()), torch.relu(x @ x.t()) + 1)
(graph, inputs), = counting_backend.graphs
assert inputs == 2
# and torch's own capture takes the same function
g = torch.compile(lambda x: x * 2, backend="counting")
assert torch.equal(g(x), x * 2) and len(counting_backend.graphs) == 2
print("found by name")
"""


def test_a_backend_of_another_package(tmp_path: Path) -> None:
    (tmp_path / "counting_backend.py").write_text(BACKEND)
    metadata = tmp_path / "counting_backend-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: counting-backend\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[torch_dynamo_backends]\ncounting = counting_backend:counting\n")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths))
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "found by name", done.stderr[-3000:]


def test_an_unknown_name_says_what_is_known() -> None:
    with pytest.raises(lampwork_capture.UnknownBackendError, match="eager"):
        lampwork_capture.optimize("no_such_backend")
