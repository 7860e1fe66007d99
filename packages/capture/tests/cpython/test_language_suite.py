"""A few quick modules of CPython's own suite, each without the hook and with it: every test has the same outcome.

The whole list is the nox session `cpython`; a module stands here once it is equal.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if importlib.util.find_spec("test.test_grammar") is None:
    pytest.skip("this interpreter comes without its test suite", allow_module_level=True)
if sys.version_info[:2] != (3, 11):
    pytest.skip("the suite is compared on CPython 3.11", allow_module_level=True)

from suite import compare, warm_up

QUICK = (
    "test_augassign",
    "test_binop",
    "test_keywordonlyarg",
    "test_named_expressions",
    "test_unpack",
    "test_dictcomps",
    "test_frame",
    "test_yield_from",
    "test_copyreg",
    "test_defaultdict",
)


@pytest.mark.parametrize("module", QUICK)
def test_outcomes_are_those_without_the_hook(module, tmp_path):
    warm_up()
    found = compare(module, str(tmp_path), timeout=120)
    assert not found.differences(), "\n".join(found.differences())
    frames = found.hooked.summary["counts"]
    assert found.plain.counts["ok"] > 0 and frames.get("whole", 0) + frames.get("broken", 0) > 0
