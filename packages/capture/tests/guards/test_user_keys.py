"""Keys of the user's in dictionaries that guards read: their `__hash__` and `__eq__` run in the middle of a check.

Such code may replace the dictionary that is being looked into, drop every object of the program, or check the same
tree for another object. Each scenario builds a tree over facts, lets a key do such a thing, and says what the check
must answer afterwards. They also run in a process of their own under `-X dev`, where freed memory is overwritten.
"""

from __future__ import annotations

import abc
import enum
import gc
import subprocess
import sys
import threading
import time
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import lampwork_capture
import pytest
import torch
from lampwork_capture.guards.facts import (
    AttributePresent,
    ByIdentity,
    ConstantIs,
    DictContains,
    DictKeysAre,
    Guard,
    GuardSet,
    IdentityIs,
    InstanceDictLacks,
    LengthIs,
    TypeIs,
)
from lampwork_capture.guards.tree import Handed, Stamps, build_tree
from lampwork_capture.source import (
    AttributeSource,
    ClassAttributeSource,
    DefaultSource,
    FunctionGlobalSource,
    GlobalSource,
    ItemSource,
    LocalSource,
)

BUILTINS = vars(__import__("builtins"))
THING = LocalSource("thing")
VALUE = AttributeSource(THING, "value")
SCENARIOS: list[Callable[[], None]] = []


def scenario(function):
    SCENARIOS.append(function)
    return function


class Odd(str):
    """Text that is never equal to anything, and does something each time that it is compared."""

    def __init__(self, _):
        self.does: Callable[[], Any] | None = None
        self.compared = 0

    def __hash__(self):
        return str.__hash__(self)

    def __eq__(self, other):
        self.compared += 1
        does, self.does = self.does, None
        try:
            return does is not None and does() is self
        finally:
            self.does = self.does or does


class Number:
    """Equal to others of the same number, and does something each time that it is compared."""

    def __init__(self, number):
        self.number, self.does = number, lambda: None

    def __hash__(self):
        return self.number

    def __eq__(self, other):
        self.does()
        return self.number == other.number


class Plain:
    """An object whose attributes stand in its namespace."""

    def __init__(self, **values):
        self.__dict__ = values


def template(thing, more):
    return thing, more


def tree_of(*facts, stamps=Stamps.ALWAYS, handed=Handed()):
    return build_tree(GuardSet(tuple(Guard(fact) for fact in facts)), template.__code__, handed, stamps)


def checks(tree, thing, names=None):
    """The answer for a call that holds the only reference to its argument."""
    arguments = (thing, None)
    del thing
    return tree.check(arguments, None, {} if names is None else names, BUILTINS)


def is_one(source):
    return ConstantIs(source, ByIdentity(1))


def overwrite_memory():
    """Fill what has just been given back."""
    return [dict.fromkeys(map(str, range(n))) for n in range(40)], [[n] * n for n in range(40)]


@scenario
def namespace_replaced_amid_the_look_up():
    for found in (True, False):
        key, thing = Odd("value"), Plain()
        thing.__dict__ = {key: 0, "value": 1} if found else {key: 0}

        def replace(thing=thing):
            thing.__dict__ = {"value": 1, "last": 2}
            return overwrite_memory()

        key.does = replace
        del key
        assert checks(tree_of(is_one(VALUE)), thing) == found


@scenario
def namespace_replaced_between_two_attributes():
    for stamps in (Stamps.NEVER, Stamps.ALWAYS):
        key, thing = Odd("b"), Plain()
        thing.__dict__ = {key: 0, "a": 1, "b": 1, "c": 1}

        def replace(thing=thing):
            thing.__dict__ = {"a": 1, "b": 1, "c": 2}
            return overwrite_memory()

        key.does = replace
        tree = tree_of(*(is_one(AttributeSource(THING, name)) for name in "abc"), stamps=stamps)
        assert not checks(tree, thing)
        assert not checks(tree, thing)
        thing.c = 1
        assert checks(tree, thing)


@scenario
def attribute_remembered_before_it_changes():
    """What the first child read is not what the namespace holds at the end of the walk."""
    for stamps in (Stamps.NEVER, Stamps.ALWAYS):
        before = [1]
        key, thing = Odd("b"), Plain()
        thing.__dict__ = {key: 0, "a": before, "b": 1}
        key.does = lambda thing=thing: setattr(thing, "a", [2])
        first = ItemSource(AttributeSource(THING, "a"), 0)
        tree = tree_of(is_one(first), is_one(AttributeSource(THING, "b")), stamps=stamps)
        assert not checks(tree, thing)  # it was read before, and is read again
        assert not checks(tree, thing)


@scenario
def the_same_tree_checked_for_another_object_meanwhile():
    facts = [is_one(ItemSource(AttributeSource(THING, name), 0)) for name in "abc"]
    for last in (1, 2):  # the check meanwhile succeeds, or fails half-way
        for stamps in (Stamps.NEVER, Stamps.ALWAYS):
            tree = tree_of(*facts, stamps=stamps)
            other = Plain(a=[1], b=[1], c=[last])
            key, thing = Odd("b"), Plain()
            thing.__dict__ = {"a": [1], key: 0, "b": [1], "c": [1]}
            key.does = lambda tree=tree, other=other: checks(tree, other)
            assert checks(tree, thing)
            other.a[0] = other.b[0] = other.c[0] = 2
            assert [checks(tree, thing) for _ in range(3)] == [True] * 3
            thing.c[0] = 2
            assert not checks(tree, thing)


@scenario
def tables_of_a_module_replaced():
    for table in ("_parameters", "_buffers", "_modules"):
        for stamps in (Stamps.NEVER, Stamps.ALWAYS):
            module = torch.nn.Module()
            module._modules["inner"] = torch.nn.Module()
            key = Odd(table)
            namespace = dict(module.__dict__)
            module.__dict__ = {key: 0, **namespace}
            del namespace

            def replace(module=module):
                module.__dict__ = dict(module.__dict__, _modules={"inner": torch.nn.Module()})
                module.__dict__["_parameters"] = {}
                return overwrite_memory()

            key.does = replace
            inner = AttributeSource(THING, "inner")
            facts = (AttributePresent(THING, "other", False), AttributePresent(THING, "inner", True))
            facts += (TypeIs(inner, torch.nn.Module), LengthIs(AttributeSource(inner, "_parameters"), 0))
            tree = tree_of(*facts, stamps=stamps)
            assert [checks(tree, module) for _ in range(3)] == [True] * 3


@scenario
def tables_replaced_by_a_key_in_one_of_them():
    key = Odd("inner")
    module = torch.nn.Module()
    module.__dict__.update(_parameters={key: None}, _modules={"inner": torch.nn.Linear(1, 1)})

    def replace():
        module.__dict__.update(_parameters={}, _modules={"inner": torch.nn.Linear(1, 1)})
        return overwrite_memory()

    key.does = replace
    del key
    inner = AttributeSource(THING, "inner")
    tree = tree_of(TypeIs(inner, torch.nn.Linear), LengthIs(AttributeSource(inner, "_parameters"), 2))
    assert checks(tree, module)
    assert checks(tree, module)


@scenario
def last_reference_dropped():
    """The object that is looked into dies while it is, and what dies with it runs code as well."""
    events = []

    class Ending:
        def __del__(self):
            events.append(overwrite_memory() and "ended")

    key = Odd("value")
    holder = [Plain()]
    holder[0].__dict__ = {key: Ending(), "value": 1}
    key.does = lambda: (holder.clear(), overwrite_memory())
    del key
    item = ItemSource(THING, 0)
    facts = (is_one(AttributeSource(item, "value")), AttributePresent(item, "value", True))
    tree = tree_of(*facts, is_one(ItemSource(THING, 1)))
    assert not checks(tree, holder)
    assert events == ["ended"]


@scenario
def finalizer_that_checks_the_same_tree():
    tree = tree_of(is_one(AttributeSource(ItemSource(THING, 0), "value")), LengthIs(THING, 1))
    answers = []

    class Ending:
        def __del__(self):
            answers.append(checks(tree, [Plain(value=1)]))

    key = Odd("value")
    holder = [Plain()]
    holder[0].__dict__ = {key: Ending(), "value": 1}
    key.does = holder.clear
    del key
    assert gc.isenabled()
    checks(tree, holder)
    assert answers == [True] and gc.isenabled()


@scenario
def globals_defaults_and_function_globals():
    key = Odd("name")
    names = {key: 0, "name": 1}
    key.does = lambda: (names.clear(), overwrite_memory())
    tree = tree_of(is_one(GlobalSource("name")))
    assert not checks(tree, None, names)
    key.does = overwrite_memory
    names |= {key: 0, "name": 1}
    assert checks(tree, None, names)

    function = types.FunctionType((lambda *, name=0: name).__code__, {Odd("name"): 0, "name": 1})
    function.__kwdefaults__ = {key: 0, "name": 1}
    key.does = lambda: (setattr(function, "__kwdefaults__", {}), overwrite_memory())
    tree = tree_of(is_one(DefaultSource(THING, "name")), is_one(FunctionGlobalSource(THING, "name")))
    assert not checks(tree, function)
    assert not checks(tree, function)


@scenario
def items_of_a_dict_and_elements_of_a_set():
    key = Odd("a")
    holder = [{key: 0, "a": 1}]
    key.does = lambda: (holder.clear(), overwrite_memory())
    item = ItemSource(ItemSource(THING, 0), "a")
    assert not checks(tree_of(is_one(item)), holder)
    assert holder == []
    for kind in (set, frozenset, dict.fromkeys):
        holder.append(kind([key, "a"]))
        assert not checks(tree_of(DictContains(ItemSource(THING, 0), "a", True)), holder)
        assert holder == []


@scenario
def instance_dict_lacks():
    def fail():
        raise RuntimeError("from a comparison")

    key, thing = Odd("forward"), Plain()
    thing.__dict__ = {key: 0}
    tree = tree_of(InstanceDictLacks(THING, "forward"), AttributePresent(THING, "forward", False))
    assert [checks(tree, thing) for _ in range(3)] == [True] * 3
    key.does = fail  # then only the user's code can tell, and does not
    assert not checks(tree, thing)
    assert not checks(tree_of(InstanceDictLacks(THING, "forward")), thing)
    assert not checks(tree_of(AttributePresent(THING, "forward", False)), thing)
    assert not checks(tree_of(AttributePresent(THING, "forward", True)), thing)


@scenario
def comparison_that_raises_hides_nothing_of_the_class():
    class Thing(Plain):
        value = 1

    def fail():
        raise RuntimeError("from a comparison")

    key, thing = Odd("value"), Thing()
    thing.__dict__ = {key: 0}
    tree = tree_of(is_one(VALUE))
    assert checks(tree, thing)
    key.does = fail
    assert not checks(tree, thing)


@scenario
def keys_in_the_namespace_of_a_class_are_not_asked():
    key = Odd("value")
    kind = type("Kind", (), {key: 0, "value": 1})
    key.compared = 0
    for fact in (is_one(VALUE), AttributePresent(THING, "value", True), AttributePresent(THING, "other", False)):
        assert not checks(tree_of(fact), kind())
        assert not checks(tree_of(fact), kind)
    assert key.compared == 0
    assert checks(tree_of(is_one(ClassAttributeSource(THING, "value"))), kind)


@scenario
def ordered_dict_whose_keys_hash_in_python():
    """Its iterator hashes each key again to find the next one: the order is read without it, and nothing runs."""
    armed, hashed, table, holder = False, [], {}, []

    class Key:
        def __hash__(self):
            hashed.append(self)
            if armed:
                table.clear(), holder.clear(), overwrite_memory()
            return 7

    class Member(enum.Enum):
        A, B = 1, 2
        __hash__ = Key.__hash__

    for kind in (OrderedDict, type("Ordered", (OrderedDict,), {})):
        for first, second in ((Key(), Key()), (Member.A, Member.B)):
            armed = False
            table = kind([(object(), 0), (second, 1), (first, 2), (object(), 3)])
            table.popitem(last=False)
            table.move_to_end(second)
            holder = [table]
            order = tuple(ByIdentity(key) for key in table)
            trees = [tree_of(DictKeysAre(ItemSource(THING, 0), keys)) for keys in (order, order[::-1], order[:2])]
            armed, hashed[:] = True, []
            assert [checks(tree, holder) for tree in trees] == [True, False, False]
            assert hashed == []


@scenario
def ordered_dict_that_was_changed_as_a_dict():
    first, second = object(), object()
    table = OrderedDict([(first, 1), (second, 2)])
    tree = tree_of(DictKeysAre(THING, (ByIdentity(first), ByIdentity(second))))
    assert checks(tree, table)
    dict.__setitem__(table, 3, 3)
    assert not checks(tree, table)
    dict.__delitem__(table, 3)
    dict.__delitem__(table, second)
    assert not checks(tree, table)


def large_tree(more, handed=Handed()):
    """A tree that goes by stamps, over an object that holds a namespace, a dict and a module."""
    held = AttributeSource(THING, "held")
    facts = [is_one(ItemSource(AttributeSource(held, "table"), name)) for name in "abc"]
    facts += [IdentityIs(AttributeSource(held, "kind"), ByIdentity(Plain)), *more]
    return tree_of(*facts, handed=handed)


def large_thing(**more):
    return Plain(held=Plain(table={"a": 1, "b": 1, "c": 1}, kind=Plain, last=[1], names={"y"}), **more)


def settle(tree, thing):
    for _ in range(10):
        assert checks(tree, thing)
    assert tree.counts["sweeps"] > 0
    return tree


@scenario
def everything_dropped_amid_what_no_stamp_covers():
    """A set is looked into in every call; a key of it drops the other things that are checked in every call."""
    for replaces in (True, False):
        often, names = AttributeSource(THING, "often"), AttributeSource(AttributeSource(THING, "held"), "names")
        thing = large_thing(often={"x"})
        facts = [DictContains(often, "x", True), DictContains(names, "y", True)]
        tree = settle(large_tree(facts), thing)
        assert tree.counts["rechecks"] == 2
        key = Odd("x")
        thing.often.clear()
        thing.often.add(key)
        thing.often.add("x")

        def drop(thing=thing, replaces=replaces):
            thing.held = large_thing().held if replaces else None
            return overwrite_memory()

        key.does = drop
        del key
        sweeps = tree.counts["sweeps"]
        assert [checks(tree, thing) for _ in range(5)] == [replaces] * 5
        assert tree.counts["sweeps"] == sweeps


@scenario
def comparison_that_changes_nothing_leaves_the_stamps_in_use():
    thing = large_thing(often={"x"})
    tree = settle(large_tree([DictContains(AttributeSource(THING, "often"), "x", True)]), thing)
    key = Odd("x")
    thing.often.clear()
    thing.often.add(key)
    thing.often.add("x")
    key.compared, sweeps = 0, tree.counts["sweeps"]
    assert [checks(tree, thing) for _ in range(5)] == [True] * 5
    assert key.compared >= 5 and tree.counts["sweeps"] == sweeps + 5
    thing.held.table["b"] = 2
    assert not checks(tree, thing)


@scenario
def what_is_handed_over_is_alive():
    key = Odd("x")
    thing = large_thing(often={"x": 1})
    last = AttributeSource(AttributeSource(THING, "held"), "last")
    facts = (is_one(ItemSource(AttributeSource(THING, "often"), "x")), LengthIs(last, 1))
    tree = settle(large_tree(facts, Handed((last,))), thing)
    for _ in range(20):
        thing.often = {"x": 1}
        assert checks(tree, thing)
    thing.often = {key: 0, "x": 1}

    def replace():
        thing.held = large_thing().held
        return overwrite_memory()

    key.does = replace
    for _ in range(20):
        (handed,) = tree.read_handed((thing, None), None, {}, BUILTINS)
        assert handed == [1]


@scenario
def numbers_and_classes_as_keys_are_stamped():
    """Keys whose comparison is C code are no reason to walk in every call."""
    for keys in ((0, 1, 2), ((0, "a"), (1, "b"), (2, "c")), (int, str, float), (None, True, 2.5), (len, min, max)):
        thing = Plain(held=Plain(table=dict.fromkeys(keys, 1)), name=1)
        table = AttributeSource(AttributeSource(THING, "held"), "table")
        facts = [is_one(ItemSource(table, key)) for key in keys]
        tree = settle(tree_of(*facts, is_one(AttributeSource(THING, "name"))), thing)
        assert tree.counts["rests"] == tree.counts["readings"] == 0
        thing.held.table[keys[1]] = 2
        assert not checks(tree, thing)


@scenario
def one_odd_key_among_names_is_no_reason_to_walk():
    """A look-up compares with keys of its own hash only: whatever else stands there takes no part."""

    class Shape(abc.ABC):
        pass

    class Colour(enum.Enum):
        RED = 1

    for other in (object(), Plain(), Shape, Colour.RED, Number(7)):
        names = [f"name{i}" for i in range(50)]
        thing = Plain(held=Plain(table={other: 0, **dict.fromkeys(names, 1)}), name=1)
        table = AttributeSource(AttributeSource(THING, "held"), "table")
        facts = [is_one(ItemSource(table, name)) for name in names]
        facts.append(DictContains(table, "absent", False))
        tree = settle(tree_of(*facts), thing)
        assert tree.counts["rests"] == tree.counts["readings"] == tree.counts["rechecks"] == 0
        for change, undo in [({"name7": 2}, {"name7": 1}), ({"absent": 1}, None)]:
            thing.held.table.update(change)
            assert not checks(tree, thing)
            if undo is not None:
                thing.held.table.update(undo)
                assert checks(tree, thing)


@scenario
def a_key_of_the_same_hash_is_met_wherever_it_stands():
    """The tables are probed as the interpreter does: each comparison is known to come before it runs."""

    class Seven(Number):
        def __hash__(self):
            return 7

        def __eq__(self, other):
            self.does()
            return other == 7

    for size in (1, 3, 60, 300, 3000, 90000):
        for apart in (8, 512, 1 << 17):  # the others stand in the way: their hashes end in the same bits
            number = Seven(7)
            seen = []
            number.does = lambda seen=seen: seen.append(gc.isenabled())
            others = [7 + apart * (i + 1) for i in range(min(size, 300))]
            others += [1 << 40 | i for i in range(size - len(others))]
            for kind in (set, frozenset, dict.fromkeys):
                keys = [*others, number]
                holder = [kind(keys)]
                if kind is not frozenset:  # some places are empty again
                    for other in others[::3]:
                        holder[0].remove(other) if kind is set else holder[0].pop(other)
                for key, present in ((7, True), (8, False), (7 + apart * 400, False)):
                    seen.clear()
                    tree = tree_of(DictContains(ItemSource(THING, 0), key, present), stamps=Stamps.NEVER)
                    assert checks(tree, holder)
                    assert seen == ([True] * 2 if present else [])  # walked once more after the first


@scenario
def odd_elements_make_a_key_odd():
    """Of a tuple, of a subclass of it, of a frozenset: while they are compared anything may change."""

    class Pair(tuple):
        pass

    for kind in (tuple, Pair, frozenset, lambda items: (1, frozenset(items))):
        seen = []
        before, element, sought = [1], Number(7), Number(7)
        thing = Plain(first=before, table={kind([element]): 1}, last=1)
        first = ItemSource(AttributeSource(THING, "first"), 0)
        item = ItemSource(AttributeSource(THING, "table"), kind([sought]))
        tree = tree_of(is_one(first), is_one(item), is_one(AttributeSource(THING, "last")), stamps=Stamps.NEVER)
        assert checks(tree, thing)

        def change(thing=thing, seen=seen):
            seen.append(gc.isenabled())
            thing.first = [2]

        element.does = sought.does = change
        assert not checks(tree, thing) and set(seen) == {True}
        assert not checks(tree, thing)


@scenario
def what_was_checked_first_is_checked_again():
    """In the order of the tree, not of the program: what a key changes may have been checked for a later read."""
    for stamps in (Stamps.NEVER, Stamps.ALWAYS):
        key, thing = Odd("b"), Plain()
        thing.__dict__ = {"a": [1, 1], key: 0, "b": 1}
        first = [is_one(ItemSource(AttributeSource(THING, "a"), i)) for i in range(2)]
        tree = tree_of(first[0], is_one(AttributeSource(THING, "b")), first[1], stamps=stamps)
        assert checks(tree, thing)
        key.does = lambda thing=thing: thing.a.__setitem__(1, 5)
        assert not checks(tree, thing)
        thing.a[1] = 1
        key.does, key.compared = (lambda: None), 0  # code that runs in each look-up and changes nothing
        assert [checks(tree, thing) for _ in range(4)] == [True] * 4
        # twice a check; a look-up that comes by the same place of the table again compares again
        assert key.compared > 0 and key.compared % 8 == 0


@scenario
def what_no_stamp_covers_is_checked_again():
    often, names = AttributeSource(THING, "often"), AttributeSource(THING, "names")
    thing = large_thing(often={"x"}, names={"y"})
    tree = settle(large_tree([DictContains(often, "x", True), DictContains(names, "y", True)]), thing)
    assert tree.counts["rechecks"] == 2
    for one, other in (("often", "names"), ("names", "often")):
        held, sought, sweeps = getattr(thing, other), min(getattr(thing, one)), tree.counts["sweeps"]
        key = Odd(sought)
        getattr(thing, one).clear()
        getattr(thing, one).update([key])
        getattr(thing, one).add(sought)
        assert checks(tree, thing) and tree.counts["sweeps"] == sweeps + 1
        key.does = held.clear
        assert not checks(tree, thing)
        getattr(thing, one).remove(key)
        held.add({"often": "x", "names": "y"}[other])
        assert checks(tree, thing)


@scenario
def the_collector_is_the_users():
    seen = []
    key, thing = Odd("value"), Plain()
    thing.__dict__ = {key: 0, "value": 1}
    tree = tree_of(is_one(VALUE))
    key.does = lambda: seen.append(gc.isenabled())
    assert checks(tree, thing) and set(seen) == {True} and gc.isenabled()
    key.does = gc.disable
    try:
        assert checks(tree, thing)
        assert not gc.isenabled()
        key.does = gc.enable
        assert checks(tree, thing)
        assert gc.isenabled()
    finally:
        gc.enable()


@scenario
def the_collector_beside_other_checks():
    """One check begins while another runs, in the code of its keys or another thread, and ends before or after it."""

    class Key:
        def __hash__(self):
            does()
            return 7

        def __eq__(self, other):
            does()
            return self is other

    class Alike(Key):
        __eq__ = object.__eq__
        __hash__ = Key.__hash__

    inner = Plain(value=1)
    inner_tree = tree_of(is_one(VALUE))
    for kind in (Key, Alike):
        does = int
        first, second = kind(), kind()
        table = OrderedDict([(first, 1), (second, 2)])
        tree = tree_of(DictKeysAre(THING, (ByIdentity(first), ByIdentity(second))), DictContains(THING, second, True))
        for begun in (lambda: checks(inner_tree, inner), lambda: time.sleep(0)):
            does, done = begun, threading.Event()

            def others(done=done, tree=tree, table=table):
                while not done.is_set():
                    checks(tree, table)

            thread = threading.Thread(target=others)
            interval = sys.getswitchinterval()
            sys.setswitchinterval(1e-6)
            try:
                thread.start()
                for _ in range(100):
                    checks(tree, table)
            finally:
                sys.setswitchinterval(interval)
                done.set()
                thread.join()
            assert gc.isenabled()


@scenario
def an_optimized_function_of_an_object_whose_keys_run_code_in_every_check():
    def f(x):
        return x * thing.a + thing.value * thing.b

    key, thing = Odd("value"), Plain()
    thing.__dict__ = {"a": 2, key: 0, "value": 3, "b": 4}
    optimized = lampwork_capture.optimize("eager")(f)
    for does in (None, overwrite_memory):  # not another namespace: CPython does not stand that where it specialises
        key.does = does
        for _ in range(4):
            assert optimized(torch.ones(1)).item() == 14
    key.does = None
    thing.b, thing.value = 5, 4
    assert optimized(torch.ones(1)).item() == 22


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda function: function.__name__)
def test_scenario(run):
    run()


def test_scenarios_where_freed_memory_is_overwritten():
    command = [sys.executable, "-X", "dev", "-W", "ignore", __file__]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == [function.__name__ for function in SCENARIOS]


if __name__ == "__main__":
    for run in SCENARIOS:
        run()
        print(run.__name__, flush=True)
