"""The README's example runs and prints what the README says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from lampwork_inductor_core import BackendNotFound, find_backend


def test_example_prints_what_is_shown():
    import torch

    try:
        find_backend(torch.device("cpu"))
    except BackendNotFound:
        pytest.skip("the example compiles for the CPU, whose backend is another package")
    text = (Path(__file__).parents[1] / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    shown = re.search(r"rows that the kernel owns:\n\n```\n(.*?)```", text, re.DOTALL)
    assert code is not None and shown is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code[1], {})
    assert printed.getvalue().strip() == shown[1].strip()
