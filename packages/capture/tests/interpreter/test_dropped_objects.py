"""What a frame takes out of containers, attributes and globals ends where eager ends it, in every later call too."""

from __future__ import annotations

import collections
import functools
import weakref

import lampwork_capture
import pytest
import torch

ended: list[str] = []


class Ends:
    """Tells when it ends."""

    def __del__(self):
        ended.append("end")


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held


class Open:
    def __init__(self, held=None):
        self.held = held


class Named(list):
    pass


class Shared:
    held: object = None


stored: object = None


def of_closure(held):
    return lambda: held


def of_default(held):
    return lambda told=held: told


def of_method(held):
    return held.__init__


def of_generator(held):
    def steps():
        yield held

    started = steps()
    next(started)
    return started


WAYS = {
    "itself": lambda held: held,
    "list": lambda held: [held],
    "dict": lambda held: {"a": (held,)},
    "deque": lambda held: collections.deque([held]),
    "set": lambda held: {held},
    "subclass of list": lambda held: Named([held]),
    "slots": Slotted,
    "attribute": Open,
    "closure": of_closure,
    "default": of_default,
    "method": of_method,
    "partial": lambda held: functools.partial(print, held),
    "generator": of_generator,
    "exception": Exception,
}


def cleared(x, box):
    box.held.clear()
    return x + len(ended)


def overwritten(x, box):
    box.held = None
    return x + len(ended)


def deleted(x, box):
    del box.held
    return x + len(ended)


def stored_to_a_class(x, box):
    Shared.held = None
    return x + len(ended)


def stored_to_a_global(x, box):
    global stored
    stored = None
    return x + len(ended)


def deleted_global(x, box):
    global stored
    del stored
    return x + len(ended)


CHANGES = [cleared, overwritten, deleted, stored_to_a_class, stored_to_a_global, deleted_global]


def results(change, *made):
    """What `change` sees end in calls with a new object each, plainly and optimized."""
    global stored
    found = []
    for call in (change, lampwork_capture.optimize("eager")(change)):
        seen = []
        for make in made:
            box = Open([make()])
            if change is stored_to_a_class:
                Shared.held, box = box.held, None
            elif change in (stored_to_a_global, deleted_global):
                stored, box = box.held, None
            ended.clear()
            seen.append(call(torch.ones(1), box).item())
        found.append(seen)
    return found


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("change", [cleared, deleted], ids=lambda f: f.__name__)
def test_whatever_holds_it(change, way):
    eager, optimized = results(change, lambda: way(Ends()))
    assert eager == optimized == [2.0]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_wherever_it_is_held(change):
    eager, optimized = results(change, Ends, lambda: Slotted(Ends()))
    assert eager == optimized == [2.0, 2.0]


@pytest.mark.parametrize("way", ["itself", "list", "dict", "subclass of list", "slots", "attribute", "partial"])
@pytest.mark.parametrize("change", [cleared, stored_to_a_global], ids=lambda f: f.__name__)
def test_what_was_harmless_in_the_first_call(change, way):
    eager, optimized = results(change, *[lambda held=held: WAYS[way](held()) for held in (int, Open, Ends)])
    assert eager == optimized == [1.0, 1.0, 2.0]


def graphs(function, *calls):
    """How many graphs a few calls of a function make."""
    made = []

    def backend(graph, inputs):
        made.append(graph)
        return graph

    optimized = lampwork_capture.optimize(backend)(function)
    for args in calls:
        optimized(torch.ones(1), *args)
    return len(made)


def test_what_is_held_in_the_end_needs_no_guard_and_no_break():
    def appended(x, items):
        items.append(x)
        return x + 1

    assert graphs(appended, ([Ends(), 1],), ([2, Open()],), (["a", Ends()],)) == 1


def test_what_is_replaced_by_its_like_needs_one_graph():
    class State:
        def __init__(self, x):
            self.x, self.more = x, [x]

    def step(x, box):
        box.held = State(x)
        return x + 1

    box = Open(State(torch.ones(1)))
    assert graphs(step, *[(box,)] * 4) == 1


def test_nothing_of_the_program_runs_meanwhile():
    asked = []

    class Told:
        def __getattr__(self, name):
            asked.append(name)
            raise AttributeError(name)

        def __call__(self, reference):
            pass

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            asked.append(str(self))
            return str.__eq__(self, other)

    def dropped(x, items):
        items.pop()
        return x + 1

    def written(x, box):
        box.held = 2
        return x + box.held

    watched = Open()
    watcher = weakref.ref(watched, Told())
    lampwork_capture.optimize("eager")(dropped)(torch.ones(1), [watched])
    assert not asked and watcher() is watched
    counts = []
    for call in (written, lampwork_capture.optimize("eager")(written)):
        box = Open()
        box.__dict__.clear()
        box.__dict__[Name("held")] = 1
        asked.clear()
        call(torch.ones(1), box)
        counts.append(len(asked))
    assert counts[0] == counts[1]
