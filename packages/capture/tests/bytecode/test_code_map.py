"""What is known of code objects is known of the very object, while it lives."""

from __future__ import annotations

import gc

import pytest
from lampwork_capture.bytecode.code_map import CodeMap


def make(text: str = "x + 1"):
    return compile(text, "model.py", "eval")


def test_equal_code_objects_are_told_apart():
    known: CodeMap[int] = CodeMap()
    first, second = make(), make()
    assert first == second
    known[first] = 1
    assert first in known and known[first] == 1
    assert second not in known and known.get(second, 7) == 7
    with pytest.raises(KeyError):
        known[second]
    known.discard(second)
    assert known[first] == 1
    known.discard(first)
    assert first not in known


def test_constants_need_no_hash():
    code = make().replace(co_consts=([1], {}))
    known: CodeMap[str] = CodeMap()
    known[code] = "list"
    assert known[code] == "list"


def test_entries_end_with_their_code():
    known: CodeMap[int] = CodeMap()
    code = make()
    known[code] = 1
    known[code] = 2
    assert known[code] == 2
    del code
    gc.collect()
    assert not known._entries
