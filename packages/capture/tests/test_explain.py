"""What `explain` says: golden text of one explanation, and the same as data."""

from __future__ import annotations

import json
import re

import lampwork_capture
import rich.tree
import torch

X = torch.ones(3)


def weigh(x):
    lampwork_capture.graph_break("weighing")
    return x * 2


def study(x, n):
    y = x * n
    if y.sum() > 0:
        y = weigh(y) + n
    return y


GOLDEN = """\
4 graphs, 10 operations, 3 graph breaks, 0 frames run as plain Python (0 of them without tensor work)
├── study (FILE:20)
│   ├── graph 0: 3 operations, 1 tensor as inputs; N guards
│   │   └── for x of 3
│   ├── graph break LW009 (branch on tensor data): the truth of a tensor depends on its data
│   │   ├── File "FILE", line 22, in study
│   │   ├── cost: 2 graphs instead of one, N instructions in plain Python, N guards checked to go on
│   │   └── hint: Use `torch.where`, or `torch.cond`; or keep the branch outside.
│   └── study, behind the break (FILE:20)
│       ├── no graph
│       ├── graph break LW014 (graph break requested): `graph_break()` was called weighing
│       │   ├── File "FILE", line 23, in study
│       │   ├── File "FILE", line 16, in weigh
│       │   ├── cost: a graph cut short, N instructions in plain Python, N guards checked to go on
│       │   └── hint: Remove the call of `graph_break()`.
│       ├── study, behind the break (FILE:20)
│       │   └── graph 1: 2 operations, 1 tensor as inputs; N guards
│       │       └── for __lampwork_next_arguments[0] of 3
│       └── study, behind the break (FILE:20)
│           └── graph 3: 2 operations, 1 tensor and 1 number (n) as inputs; N guards
│               └── for __lampwork_next_arguments[0] of 3
├── study (FILE:20)
│   ├── graph 2: 3 operations, 1 tensor and 1 number (n) as inputs; N guards
│   │   └── for x of 3
│   └── graph break LW009 (branch on tensor data): the truth of a tensor depends on its data
│       ├── File "FILE", line 22, in study
│       ├── cost: 2 graphs instead of one, N instructions in plain Python, N guards checked to go on
│       └── hint: Use `torch.where`, or `torch.cond`; or keep the branch outside.
└── 2 recompilations
    ├── study (FILE:20)
    │   └── ConstantIs of `n`: then 2, now 3 [needed at FILE:21]
    └── study (FILE:20)
        └── ConstantIs of `n`: then 2, now 3 [needed at FILE:23]"""


def normal(text: str) -> str:
    """Without what depends on the machine and on Python's version."""
    text = text.replace(__file__, "FILE")
    return re.sub(r"\d+ (guard|instruction)s?\b", r"N \1s", text)


def explained():
    explain = lampwork_capture.explain(study)
    for n in (2, 3):
        explanation = explain(X, n)
    return explanation


def test_golden_text():
    assert normal(str(explained())) == GOLDEN


def test_as_data():
    explanation = explained()
    report = explanation.report
    found = json.loads(json.dumps(explanation.to_dict()))
    assert found["graphs"] == report.graphs == len(explanation.capture.graphs)
    (again, *_) = report.recompilations
    assert (again.failed[0].source, again.failed[0].then, again.failed[0].now) == ("n", "2", "3")
    assert report.frames[0].graph_break.cost.graphs == 2
    assert found["frames"][1]["graph"]["numbers"] == ["n"]
    assert isinstance(explanation.__rich__(), rich.tree.Tree)


def test_an_explanation_keeps_no_tensors_alive():
    report = explained().report
    assert "tensor(" not in repr(report)


def test_frames_without_news_are_left_out():
    def idle(word):
        return word.upper()

    @lampwork_capture.disable
    def log(word):
        return word

    def f(x):
        log(idle("a"))
        return x + 1

    report = lampwork_capture.explain(f)(X).report
    assert [frame.function.rpartition(".")[2] for frame in report.frames] == ["f"]


def scaled(x, w):
    y = x.view(-1, 8) @ w
    if x.size(0) % 2 == 0:
        y = y + 1
    return y if x.size(1) == 16 else y * 2


def test_what_sizes_a_graph_takes_and_which_became_numbers():
    explanation = lampwork_capture.explain(scaled, dynamic=True)(torch.ones(4, 16), torch.ones(8, 2))
    (frame,) = explanation.report.frames
    x, w, *relations = frame.graph.accepted
    assert (x, w) == ("x of (1 or more) x 16", "w of 8 x (1 or more)")
    assert any(text.startswith("(x.size(0) % 2) == 0, needed at File") for text in relations)
    inner, columns = sorted(frame.graph.specialized, key=lambda size: not size.operation)
    assert (inner.dimension, inner.value, inner.operation) == ("w.size(0)", 8, "matmul")
    assert inner.user_line.text == "y = x.view(-1, 8) @ w" and "`w.size(0)`" in inner.hint
    assert (columns.dimension, columns.value, columns.operation) == ("x.size(1)", 16, "")
    assert columns.user_line.text.startswith("return y if x.size(1) == 16") and "torch.where" in columns.hint
    text = str(explanation)
    assert "for one size only: w.size(0) became 8, in `matmul`" in text
    assert text.count("in scaled: return y if x.size(1) == 16") == 1


def test_a_recompilation_names_the_operation_that_fixed_a_size():
    def function(x):
        return x.view(4, -1) + 1

    explain = lampwork_capture.explain(function, dynamic=True)
    explain(torch.ones(4, 3))
    (again,) = explain(torch.ones(8, 3)).report.recompilations
    assert again.failed[0].operation == "view" and "[guard needed by `view` at " in again.failed[0].words
