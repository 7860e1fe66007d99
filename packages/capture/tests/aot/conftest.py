"""Settings for every test of this stage: fallbacks raise, every traced graph is verified."""

import pytest


@pytest.fixture(autouse=True)
def strict_and_verified(monkeypatch):
    monkeypatch.setenv("LAMPWORK_STRICT", "1")
    monkeypatch.setenv("LAMPWORK_VERIFY", "1")
