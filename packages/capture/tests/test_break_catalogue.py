"""The catalogue of graph breaks has an entry for each id, and each of its examples breaks as the entry says."""

from __future__ import annotations

import linecache
import re
import warnings
from pathlib import Path

import lampwork_capture
import pytest
import torch
from lampwork_capture import BreakId

CATALOGUE = Path(__file__).parents[3] / "docs" / "graph-breaks.md"
PARTS = ("**What.**", "**Why.**", "**What to change.**", "**Cost.**")


def entries():
    sections = re.split(r"^## ", CATALOGUE.read_text(), flags=re.MULTILINE)[1:]
    return {section.partition(":")[0]: section for section in sections}


def example_of(section):
    found = re.search(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    return None if found is None else found.group(1)


EXAMPLES = {code: source for code, section in entries().items() if (source := example_of(section)) is not None}

# What the catalogue says its examples are meant for
(ARGUMENT,) = re.findall(r"^The examples are meant for a vector: `f\((.*)\)`\.$", CATALOGUE.read_text(), re.MULTILINE)


def test_each_id_has_its_entry():
    assert list(entries()) == [break_id.code for break_id in BreakId]


@pytest.mark.parametrize("break_id", BreakId, ids=lambda b: b.code)
def test_an_entry_says_everything(break_id):
    section = entries()[break_id.code]
    assert section.partition("\n")[0] == f"{break_id.code}: {break_id.title}"
    assert [part for part in PARTS if part in section] == list(PARTS)


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_breaks_so(code):
    filename = f"<example of {code}>"
    source = EXAMPLES[code]
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    names = {"torch": torch, "lampwork_capture": lampwork_capture, "__name__": "example"}
    exec(compile(source, filename, "exec"), names)
    function = names["f"]
    x = eval(ARGUMENT, names)
    grad_mode = torch.is_grad_enabled()
    expected = function(x)
    torch.set_grad_enabled(grad_mode)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captured = lampwork_capture.capture(function, x)
    torch.set_grad_enabled(grad_mode)
    frames = [frame for frame in captured.frames if frame.code.co_filename == filename]
    found = {frame.graph_break.break_id.code for frame in frames if frame.graph_break is not None}
    assert code in found
    assert repr(captured.result) == repr(expected) or code == "LW008"  # an iterator shows its address


def test_each_break_names_all_open_functions():
    def inner(v):
        w = v + 1
        print(end="")
        return w * 2

    def middle(v):
        return inner(v) + 1

    def outer(v):
        return middle(v * 3) - 1

    (record,) = lampwork_capture.capture(outer, torch.ones(3)).graph_breaks
    assert [line.function.rpartition(".")[2] for line in record.stack] == ["outer", "middle", "inner"]
