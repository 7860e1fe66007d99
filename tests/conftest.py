"""What crosses packages: the whole stack. A failure inside Lampwork raises here instead of falling back to eager."""

import os

os.environ.setdefault("LAMPWORK_STRICT", "1")
os.environ.setdefault("LAMPWORK_VERIFY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["LAMPWORK_REMEMBER"] = "0"  # what a test captures depends on nothing that ran before

import lampwork_capture
import pytest
import torch


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.compiler.reset()
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _graphs_that_raise_alone_fail(recwarn: pytest.WarningsRecorder):
    """A frame whose compiled graph raises runs again as plain Python, which would hide a kernel that is broken."""
    yield
    told = [str(w.message) for w in recwarn if w.category is lampwork_capture.CaptureWarning]
    assert not any("compiled graph" in message for message in told), told
