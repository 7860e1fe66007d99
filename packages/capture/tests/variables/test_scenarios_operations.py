"""What builtin operations do beside their result: what they take from an iterator, when they end, what they refuse."""

# ruff: noqa
from __future__ import annotations

import collections
import itertools
import operator
import weakref

import pytest
import torch
import lampwork_capture
from lampwork_capture import graph_break
from scenarios import Scenarios, check_scenario

S = Scenarios()
whole, split = S.whole, S.split


def t(*values):
    return torch.tensor([float(v) for v in values] or [1.0, 2.0, 3.0])


@whole
def membership_takes_from_an_iterator_what_it_looks_at(run):
    def f(x, k):
        iterators = [
            iter([1, 3, 5]), iter((1, 3, 5)), iter({1: 2, 3: 4, 5: 6}), iter(range(1, 7, 2)), (v for v in (1, 3, 5)),
            map(abs, [1, -3, 5]), filter(None, [1, 3, 5]), reversed([5, 3, 1]),
        ]  # fmt: skip
        found = [k in iterator for iterator in iterators]
        pairs = enumerate([1, 3, 5])
        return x + 1, found, [list(iterator) for iterator in iterators], (1, k) not in pairs, list(pairs)

    for k in (1, 3, 5, 7):
        run(f, t(), k)


@split
def membership_in_an_endless_iterator(run):
    def f(x):
        numbers = itertools.count()
        return x + 1, 3 in numbers, next(numbers), 3_000 in numbers, next(numbers)

    run(f, t())


@whole
def membership_asks_the_items_of_an_own_iterator(run):
    class Own:
        def __init__(self):
            self.left = [1, 3, 5]

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise StopIteration
            return self.left.pop(0)

    def f(x, own, k):
        return x + 1, k in own, own.left

    run(f, t(), Own(), 3)
    run(f, t(), Own(), 7)


@whole
def a_list_looks_empty_while_it_is_sorted(run):
    def f(x, items):
        seen = []
        items.sort(key=lambda v: (seen.append((len(items), list(items))), v)[1])
        return x + 1, seen

    run(f, t(), [3, 1, 2])
    run(f, t(), [])


@whole
def a_list_is_changed_while_it_is_sorted(run):
    def f(x, items, change):
        try:
            items.sort(key=lambda v: change(items, v) or v)
        except ValueError as error:
            return x + 1, items, str(error)
        return x + 2, items

    def append_and_pop(items, v):
        items.append(v)
        items.pop()

    def none_of_it(items, v):
        items.clear()
        items.extend([])
        items.reverse()
        items.sort()
        items[:] = []
        items *= 2

    for change in (lambda items, v: items.append(v), append_and_pop, none_of_it, lambda items, v: items.insert(0, v)):
        run(f, t(), [3, 1, 2], change)


@whole
def sorting_that_fails_half_way(run):
    class Item:
        def __init__(self, n):
            self.n = n

        def __lt__(self, other):
            if self.n == 2 or other.n == 2:
                raise KeyError(self.n)
            return self.n < other.n

    def f(x, items, **options):
        try:
            items.sort(**options)
        except Exception as error:
            return x + 1, str(error), [item.n for item in items]
        return x + 2

    def g(x, items, **options):
        try:
            items.sort(**options)
        except Exception as error:
            return x + 1, str(error), items
        return x + 2

    for reverse in (False, True):
        run(f, t(), [Item(n) for n in (5, 4, 3, 1, 2, 7)], reverse=reverse)
        run(g, t(), [5, 4, 3, None, 2, 7], reverse=reverse)
        run(g, t(), [5, 4, 3, 0, 2, 7], key=lambda v: 1 / v, reverse=reverse)


@split
def sorting_backwards_is_said_in_many_ways(run):
    class Index:
        def __index__(self):
            return 1

    class Truth:
        def __bool__(self):
            return True

    def f(x, items, reverse):
        try:
            items.sort(reverse=reverse)
        except Exception as error:
            return x + 1, type(error), str(error)
        return x + 2, items

    def g(x, items, reverse):
        try:
            items = sorted(items, reverse=reverse)
        except Exception as error:
            return x + 1, type(error), str(error)
        return x + 2, items

    for reverse in (True, 0, 2, "a", "", None, 1.5, [], [1], 2**70, Index(), Truth(), object()):
        run(f, t(), [3, 1, 2], reverse)
        run(g, t(), [3, 1, 2], reverse)
        run(g, t(), [], reverse)


@whole
def insert_into_a_deque_with_a_bound(run):
    def f(x, d, i):
        try:
            d.insert(i, 5)
        except IndexError as error:
            return x + 1, str(error), d
        return x + 2, d

    for bound in (2, 3, None):
        for i in (-9, 0, 1, 9):
            run(f, t(), collections.deque([1, 2], maxlen=bound), i)
    run(f, t(), collections.deque(maxlen=0), 0)


@split
def bounds_that_no_deque_has(run):
    def f(x, items, bound):
        try:
            return x + 1, collections.deque(items, bound)
        except Exception as error:
            return x + 2, type(error), str(error)

    for bound in (-1, 0, True, None, "a", 1.5, 2**70, -(2**70)):
        run(f, t(), [1, 2], bound)
    run(f, t(), 1, -1)


@split
def repeated_more_often_than_there_is_memory(run):
    def f(x, part, n):
        try:
            return x + 1, len(part * n)
        except Exception as error:
            return x + 2, type(error), str(error)

    def g(x, part, n):
        try:
            part *= n
        except Exception as error:
            return x + 2, type(error), str(error), part
        return x + 1, len(part)

    for n in (2**70, 2**62, 2**63, -(2**70), -1, 0, 3, 30_000):
        for part in ([0], (1,), "a", [], (), b"a"):
            run(f, t(), part, n)
            run(g, t(), part, n)


class Bare:
    pass


REFUSED = [
    lambda x, a: min([]), lambda x, a: max(()), lambda x, a: [] + (x,), lambda x, a: [x] + (x,), lambda x, a: [x] * 1.5,
    lambda x, a: operator.setitem([x], slice(0, 1), 5), lambda x, a: operator.setitem([x], slice(0, 1, 2), a),
    lambda x, a: int[0], lambda x, a: torch.Tensor[1], lambda x, a: Bare[1], lambda x, a: vars(1), lambda x, a: vars([]),
    lambda x, a: abs(a), lambda x, a: -a, lambda x, a: ~a, lambda x, a: +a, lambda x, a: round(a), lambda x, a: round(x),
    lambda x, a: 1 in a, lambda x, a: 1 in 1, lambda x, a: print(*a), lambda x, a: Bare(*a), lambda x, a: dict(**a),
    lambda x, a: Bare(**a), lambda x, a: {**a}, lambda x, a: {**[(1, 2)]}, lambda x, a: dict(**[("a", 2)]),
    lambda x, a: str.join(1, 2), lambda x, a: list.append(1, 2), lambda x, a: list.append(a, 2),
    lambda x, a: dict.get([], 2), lambda x, a: dict.get({}), lambda x, a: len(a),
    lambda x, a: len(1), lambda x, a: operator.index(a), lambda x, a: [1, 2][a], lambda x, a: [1, 2][2**70],
    lambda x, a: (1, 2)[5], lambda x, a: [1, 2].pop(2**70), lambda x, a: [].pop(), lambda x, a: [x].pop(4),
    lambda x, a: [x].insert(2**70, 1), lambda x, a: operator.setitem([x], 2**70, 1), lambda x, a: operator.delitem([x], 3),
    lambda x, a: collections.deque([x])[3], lambda x, a: collections.deque([x])[2**70], lambda x, a: a + 1,
    lambda x, a: 1 + a, lambda x, a: operator.iadd(a, 1), lambda x, a: operator.ipow(1, a), lambda x, a: a ** 2,
    lambda x, a: a < 1, lambda x, a: a >= a, lambda x, a: [x] < (x,), lambda x, a: divmod(a, 1), lambda x, a: a @ a,
    lambda x, a: a[0], lambda x, a: {} | [], lambda x, a: {x} - [x], lambda x, a: operator.isub([x], [x]),
    lambda x, a: Bare + 1, lambda x, a: int + 1, lambda x, a: None + 1, lambda x, a: print + 1,
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused_in_the_words_of_the_interpreter(number):
    def attempt(x, a):
        x = x + 1
        try:
            return x, REFUSED[number](x, a)
        except Exception as error:
            return x, type(error), str(error)

    lampwork_capture.reset()  # the code is the same for all
    expected = attempt(t(), Bare())
    actual = lampwork_capture.optimize("eager")(attempt)(t(), Bare())
    assert len(expected) == 3, "it is not refused"
    assert actual[1:] == expected[1:]


@whole
def a_mapping_is_asked_once_for_its_keys(run):
    class Own:
        def __init__(self):
            self.asked = []

        def keys(self):
            self.asked.append("keys")
            return ["a", "b"]

        def __getitem__(self, key):
            self.asked.append(key)
            return key * 2

    def g(x, **kwargs):
        return x + 1, kwargs

    def f(x, own):
        return g(x, **own), {**own, "c": 3}, own.asked

    def twice(x, own):
        try:
            g(x, **own, **own)
        except TypeError:
            return x + 1, own.asked

    run(f, t(), Own())
    run(twice, t(), Own())


@split
def a_store_to_a_local_ends_what_it_held(run):
    def scenario(make):
        seen = []

        class Told:
            def __del__(self):
                seen.append("end")

        def f(x):
            held = make(Told, seen)
            held = None
            seen.append("after")
            y = x + 1
            held = make(Told, seen)
            for held in (1, 2):
                seen.append(held)
            return y, held

        run(f, t())
        run.see(list(seen))

    class Plain:
        pass

    def watched(told, seen):
        made = Plain()
        weakref.finalize(made, seen.append, "finalized")
        return made

    scenario(lambda told, seen: told())
    scenario(watched)


@whole
def a_store_to_a_local_that_ends_nothing(run):
    class Plain:
        pass

    def f(x, a, b, function):
        a = b
        function = abs
        return x + 1, a is b, function(-1)

    run(f, t(), Plain(), Plain(), lambda v: v)


@split
def a_metaclass_with_every_method_of_its_own(run):
    seen = []

    class Meta(type):
        def __new__(meta, name, bases, namespace):
            seen.append("new")
            return super().__new__(meta, name, bases, namespace)

        def __init__(cls, name, bases, namespace):
            seen.append("init")
            super().__init__(name, bases, namespace)

        def __call__(cls, *args):
            seen.append("call")
            return super().__call__(*args)

    class Base(metaclass=Meta):
        def __init__(self, v):
            self.v = v

    def f(x):
        class Made(Base):
            pass

        return x + 1, Made(x).v

    for _ in range(2):
        run(f, t())
        run.see(list(seen))


@split
def a_break_in_the_call_of_a_metaclass(run):
    seen = []

    class Meta(type):
        def __call__(cls, *args):
            graph_break()
            seen.append("call")
            return super().__call__(*args)

        def mro(cls):
            return super().mro()

    class Own(metaclass=Meta):
        def __init__(self, v):
            graph_break()
            self.v = v

        def __call__(self):
            return "no method of the metaclass"

        def __repr__(self):
            return "own"

    def f(x):
        held = Own.mro
        own = Own(x)
        graph_break()
        return own.v + 1, len(held())

    for _ in range(2):
        run(f, t())
        run.see(list(seen))


class Ends:
    """Tells when it ends."""

    def __init__(self, log):
        self.log = log

    def __del__(self):
        self.log.append("end")


class Slotted:
    __slots__ = ("held",)


class Open:
    pass


def _holders(log):
    slotted, plain = Slotted(), Open()
    slotted.held, plain.held = Ends(log), Ends(log)
    return {
        "items": [Ends(log), Ends(log), Ends(log)],
        "nested": {"a": [Ends(log)], "b": (1, [Ends(log)])},
        "queue": collections.deque([Ends(log), Ends(log)], 2),
        "slotted": slotted,
        "plain": plain,
    }


@split
def what_changes_take_out_ends_at_once(run):
    def cleared(x, h, log):
        h["items"][:] = []
        log.append("next")
        return x + 1

    def multiplied(x, h, log):
        h["items"] *= 0
        log.append("next")
        return x + 1

    def nested(x, h, log):
        h["nested"]["a"] = []
        log.append("next")
        return x + 1

    def left(x, h, log):
        h["queue"].popleft()
        log.append("next")
        return x + 1

    def pushed(x, h, log):
        h["queue"].append(1)
        log.append("next")
        return x + 1

    def slot(x, h, log):
        h["slotted"].held = None
        log.append("next")
        return x + 1

    def through_dict(x, h, log):
        h["plain"].__dict__["held"] = None
        log.append("next")
        return x + 1

    def popped(x, h, log):
        last = h["items"].pop()
        log.append("next")
        last = None
        log.append("after")
        return x + 1, last

    for function in (cleared, multiplied, nested, left, pushed, slot, through_dict, popped):
        log = []
        run(function, t(), _holders(log), log)
        run.see(log)


@whole
def what_is_moved_does_not_end(run):
    def f(x, h, log):
        items, plain = h["items"], h["plain"]
        items[0], items[1] = items[1], items[0]
        items.append(items.pop())
        plain.held = plain.held
        h["nested"]["a"] = h["nested"].pop("a")
        log.append("next")
        return x + 1

    log = []
    run(f, t(), _holders(log), log)
    run.see(log)


@whole
def an_index_beyond_a_struct_sequence(run):
    def f(x):
        try:
            return torch.max(x, 0)[5]
        except IndexError as error:
            return x + 1, str(error)

    run(f, t())


@split
def an_object_of_a_class_with_a_key_that_is_no_name(run):
    class Key:
        def __hash__(self):
            return hash("zz")

    Odd = type("Odd", (), {Key(): 1, "a": 1})

    def f(x, odd):
        return x + odd.a

    run(f, t(), Odd())


@whole
def a_long_list_of_one_value(run):
    def f(x):
        return x + len([0] * 30_000)

    run(f, t())


@pytest.mark.parametrize("scenario,is_whole", S.found, ids=lambda p: getattr(p, "__name__", ""))
def test_operations(scenario, is_whole):
    check_scenario(scenario, is_whole)
