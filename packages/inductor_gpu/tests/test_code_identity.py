"""What gives machine code another key."""

from __future__ import annotations

import importlib.metadata

import pytest
from lampwork_inductor_gpu import code_identity
from lampwork_inductor_gpu.code_identity import compiler_identity, imported_text

TEXT = "import triton\nfrom lampwork_inductor_gpu.device_functions import maximum\n"


def test_settings_of_triton_count_and_places_do_not() -> None:
    plain = compiler_identity({"HOME": "/home", "TRITON_CACHE_DIR": "/a"})
    assert compiler_identity({"TRITON_CACHE_DIR": "/b", "TRITON_INTERPRET": "1"}) == plain
    assert compiler_identity({"TRITON_DEFAULT_FP_FUSION": "0"}) != plain
    assert compiler_identity({"DISABLE_LLVM_OPT": "1"}) != plain


def test_the_version_of_triton_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiler_identity({})
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "9.9")
    assert compiler_identity({}) != before


def test_what_a_kernel_imports_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert imported_text("import triton\n") == ""
    found = imported_text(TEXT)
    assert "def float_remainder(" in found and "INTERPRETED =" in found  # what that module imports, too
    texts = {"device_functions": "from .more import f\n", "more": "from .device_functions import g\n", "other": "x"}
    monkeypatch.setattr(code_identity, "_module_text", texts.__getitem__)
    assert imported_text(TEXT) == "# device_functions\nfrom .more import f\n# more\nfrom .device_functions import g\n"


def test_a_module_that_there_is_not() -> None:
    with pytest.raises(ImportError, match="no_such_module"):
        imported_text("from lampwork_inductor_gpu.no_such_module import f\n")
