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
│       └── study, behind the break (FILE:20)
│           └── graph 3: 2 operations, 1 tensor and 1 number (n) as inputs; N guards
├── study (FILE:20)
│   ├── graph 2: 3 operations, 1 tensor and 1 number (n) as inputs; N guards
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
