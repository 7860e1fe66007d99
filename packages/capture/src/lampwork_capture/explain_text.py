"""A report as text: a tree of frames, graphs and breaks, then the recompilations.

Invariant: nothing is decided here; each number and word stands in the report.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from .explain_report import BreakReport, FrameReport, GraphReport, RecompilationReport, Report

_WIDTH = 10_000  # of plain text: lines are not folded


def tree_of(report: Report) -> Tree:
    """What rich shows in a terminal."""
    tree = Tree(Text(_summary(report), style="bold"))
    for frame in report.frames:
        _add_frame(tree, frame)
    if report.recompilations:
        branch = tree.add(Text(_count(len(report.recompilations), "recompilation"), style="bold yellow"))
        for again in report.recompilations:
            _add_recompilation(branch, again)
    return tree


def text_of(report: Report) -> str:
    """The same as plain text."""
    output = io.StringIO()
    Console(file=output, width=_WIDTH, color_system=None, force_terminal=False).print(tree_of(report))
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _summary(report: Report) -> str:
    return (
        f"{_count(report.graphs, 'graph')}, {_count(report.operations, 'operation')}, "
        f"{_count(report.breaks, 'graph break')}, {_count(report.plain, 'frame')} run as plain Python "
        f"({report.idle} of them without tensor work)"
    )


def _add_frame(tree: Tree, frame: FrameReport) -> None:
    place = f"({frame.filename}:{frame.line})"
    name = f"{frame.function}, behind the break" if frame.continues else frame.function
    branch = tree.add(Text.assemble((name, "bold cyan"), " ", (place, "dim")))
    if frame.graph is not None:
        graph = branch.add(Text(_graph(frame.graph), style="green"))
        for text in frame.graph.accepted:
            graph.add(Text(f"for {text}"))
        for size in frame.graph.specialized:
            branch_of_size = graph.add(Text(f"for one size only: {size.words}", style="yellow"))
            for line in size.lines:
                branch_of_size.add(Text(line, style="dim"))
            branch_of_size.add(Text(f"hint: {size.hint}", style="yellow"))
    elif not frame.is_plain:
        branch.add(Text("no graph", style="dim"))
    if frame.graph_break is not None:
        _add_break(branch, frame.graph_break)
    for inner in frame.inner:
        _add_frame(branch, inner)


def _graph(graph: GraphReport) -> str:
    text = f"graph {graph.number}: {_count(graph.operations, 'operation')}, {_count(len(graph.tensors), 'tensor')}"
    if graph.numbers:
        text += f" and {_count(len(graph.numbers), 'number')} ({', '.join(graph.numbers)})"
    return f"{text} as inputs; {_count(graph.guards, 'guard')}"


def _add_break(tree: Tree, reason: BreakReport) -> None:
    kind = "runs as plain Python" if reason.cost is None else "graph break"
    branch = tree.add(
        Text.assemble((f"{kind} {reason.code}", "bold red"), f" ({reason.title}): {reason.cause}"),
    )
    for line in reason.lines:
        branch.add(Text(line, style="dim"))
    if reason.cost is not None:
        branch.add(Text(_cost(reason), style="magenta"))
    branch.add(Text(f"hint: {reason.hint}", style="yellow"))


def _cost(reason: BreakReport) -> str:
    cost = reason.cost
    assert cost is not None
    parts = [
        f"{cost.graphs} graphs instead of one" if cost.graphs > 1 else "a graph cut short",
        f"{_count(cost.instructions, 'instruction')} in plain Python",
    ]
    if cost.guards:
        parts.append(f"{_count(cost.guards, 'guard')} checked to go on")
    return "cost: " + ", ".join(parts)


def _add_recompilation(tree: Tree, again: RecompilationReport) -> None:
    branch = tree.add(Text.assemble((again.function, "bold cyan"), " ", (f"({again.filename}:{again.line})", "dim")))
    for row in _rows(again):
        branch.add(row)


def _rows(again: RecompilationReport) -> Sequence[Text]:
    rows: list[Text] = []
    for guard in again.failed:
        if guard.then:
            text = f"{guard.kind} of `{guard.source}`: then {guard.then}, now {guard.now}"
        else:
            text = f"{guard.kind} of `{guard.source}`: {guard.words}"
        if guard.user_line is not None:
            by = f" by `{guard.operation}`" if guard.operation else ""
            text += f" [needed{by} at {guard.user_line.filename}:{guard.user_line.line}]"
        rows.append(Text(text))
    return rows
