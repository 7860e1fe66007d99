"""Containers around tensors: lists, dicts, sets, deques and their kin, mutated inside and between calls."""

# ruff: noqa
from __future__ import annotations

import collections
import sys
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque, namedtuple

import pytest
import torch
from lampwork_capture import graph_break
from scenarios import Scenarios, check_scenario
from test.support import import_helper

S = Scenarios()
whole, split = S.whole, S.split


def t(*values):
    return torch.tensor([float(v) for v in values] or [1.0, 2.0, 3.0])


@whole
def list_grows_between_calls(run):
    items = [t(1)]

    def f(x):
        total = x
        for item in items:
            total = total + item
        return total, len(items)

    run(f, t())
    items.append(t(5))
    run(f, t())
    items.clear()
    run(f, t())


@whole
def list_slices_assigned_and_deleted(run):
    def f(x, a):
        a[1:3] = [x, x + 1, x + 2]
        del a[::2]
        a[len(a) :] = (7, 8)
        a[:0] = "ab"
        b = a[::-1]
        b[::2] = [0] * len(b[::2])
        del a[-1:]
        return b, a

    run(f, t(), [1, 2, 3, 4, 5])
    run(f, t(), [1, 2, 3, 4, 5, 6])


@whole
def extended_slice_of_wrong_size(run):
    def f(x, a):
        try:
            a[::2] = [1]
        except ValueError as e:
            return x + 1, str(e), a
        return x, a

    run(f, t(), [1, 2, 3, 4])
    run(f, t(), [1, 2])


@whole
def list_aliases_inside_container(run):
    def f(x, a, d):
        a.append(x)
        d["a"].append(2)
        d["new"] = a
        return d["a"] is a, len(a), x * len(d["a"])

    shared = [1]
    run(f, t(), shared, {"a": shared})
    run(f, t(), [1], {"a": [1]})
    run(f, t(), shared, {"a": shared})


@whole
def same_list_twice(run):
    def f(x, a, b):
        a.append(x)
        b.append(1)
        return x + len(a), a is b

    one = []
    run(f, t(), one, one)
    run(f, t(), [], [])
    run(f, t(), one, one)
    run.see(one)


@whole
def list_contains_itself(run):
    def f(x):
        a = [x]
        a.append(a)
        return a, x + len(a[1][1])

    run(f, t())
    run(f, t(4))


@whole
def list_methods(run):
    def f(x):
        a = [3, 1, 2]
        a.extend(range(2))
        a.insert(1, 9)
        a.insert(-100, 8)
        a.insert(100, 7)
        p = a.pop(), a.pop(0), a.pop(-2)
        a.remove(9)
        i = a.index(1), a.count(1)
        a.reverse()
        b = a.copy()
        a.sort()
        b.sort(key=lambda v: -v, reverse=True)
        a *= 2
        a += (5,)
        return a, b, p, i, x * a[0]

    run(f, t())
    run(f, t(2))


@whole
def list_errors(run):
    def f(x, a, which):
        try:
            if which == 0:
                a.pop()
            elif which == 1:
                a.remove(5)
            elif which == 2:
                a.index("q")
            elif which == 3:
                a[10]
            elif which == 4:
                a[10] = 1
            elif which == 5:
                del a[10]
            elif which == 6:
                a["k"]
            elif which == 7:
                a + (1,)
            elif which == 8:
                a.sort()
            elif which == 9:
                a < 3
            elif which == 10:
                a * "a"
            elif which == 11:
                a[1.5] = 2
        except Exception as e:
            return x + 1, type(e), e.args
        return x

    for which in range(12):
        run(f, t(), [] if which == 0 else [1, "a"], which)


@whole
def list_changed_while_iterated(run):
    def f(x):
        a = [1, 2, 3]
        seen = []
        for v in a:
            seen.append(v)
            if v < 3 and len(a) < 6:
                a.append(v + 10)
            if v == 2:
                a.remove(1)
        return seen, a, x + len(seen)

    run(f, t())
    run(f, t())


@whole
def sort_with_key_that_raises(run):
    def f(x, a):
        try:
            a.sort(key=lambda v: 1 / v)
        except ZeroDivisionError as e:
            return x * 2, str(e), a
        return x, a

    run(f, t(), [3, 0, 1])
    run(f, t(), [3, 2, 1])


@whole
def sort_is_stable(run):
    def f(x):
        pairs = [(1, "b"), (0, "z"), (1, "a"), (0, "a")]
        return (
            sorted(pairs, key=lambda p: p[0]),
            sorted(pairs, key=lambda p: p[0], reverse=True),
            sorted(pairs),
            sorted("bca", reverse=True),
            x + 1,
        )

    run(f, t())
    run(f, t(2, 3))


@whole
def min_max(run):
    def f(x, d):
        return (
            min(3, 1, 2),
            max([1, 5, 3]),
            max([], default=x),
            min({}, default=None),
            max("a", "bb", key=len),
            min([(1, "b"), (1, "a")]),
            max(d, key=d.get),
            min(d.items(), key=lambda kv: kv[1]),
            x + max(d.values()),
        )

    run(f, t(), {"a": 1, "b": 3})
    run(f, t(), {"a": 4, "b": 3})


@whole
def sums(run):
    def f(x):
        return (
            sum([1, 2, 3]),
            sum([x, x]),
            sum([x, x], x),
            sum([[1], [2]], []),
            sum((i for i in range(4)), 10),
            sum([0.1] * 3),
            sum([x], start=1),
        )

    run(f, t())
    run(f, t(9))


@whole
def sum_of_strings(run):
    def f(x):
        words = []
        for start in ("", b""):
            try:
                sum(["a"], start)
            except TypeError as e:
                words.append(str(e))
        return x + 1, words

    run(f, t())
    run(f, t())


@whole
def any_all_short_circuit(run):
    def f(x):
        log = []

        def note(v):
            log.append(v)
            return v

        a = any(note(v) for v in [0, 1, 2])
        b = all(note(v) for v in [1, 0, 2])
        c = all([]), any([])
        return a, b, c, log, x + 1

    run(f, t())
    run(f, t())


@whole
def dict_order_matters(run):
    def f(x, d):
        out = x
        for i, (k, v) in enumerate(d.items()):
            out = out + i * v
        return out, list(d)

    run(f, t(), {"a": 1, "b": 2})
    run(f, t(), {"b": 2, "a": 1})
    run(f, t(), {"a": 1, "b": 2, "c": 3})


@whole
def dict_key_overwritten_keeps_first_key(run):
    def f(x, d):
        d[1.0] = x
        d[True] = x + 1
        return list(d), len(d), [type(k) for k in d]

    run(f, t(), {1: 0})
    run(f, t(), {})
    run(f, t(), {True: 0})


@whole
def dict_deleted_and_inserted(run):
    def f(x, d):
        del d["a"]
        d["c"] = x
        d["a"] = x + 1
        return list(d.items())

    run(f, t(), {"a": 1, "b": 2})
    run(f, t(), {"b": 1, "a": 2})


@whole
def dict_changed_while_iterated(run):
    def f(x, d):
        try:
            for k in d:
                d[k + "x"] = 1
        except RuntimeError as e:
            return x + 1, str(e), d

    run(f, t(), {"a": 1})
    run(f, t(), {"a": 1, "b": 2})


@whole
def dict_keys_changed_while_iterated(run):
    def f(x, d):
        out = []
        try:
            for k, v in d.items():
                out.append(k)
                if k == "b":
                    del d["b"]
        except RuntimeError as e:
            out.append(str(e))
        return out, x + len(d)

    run(f, t(), {"a": 1, "b": 2, "c": 3})
    run(f, t(), {"a": 1, "b": 2})


@whole
def dict_views(run):
    def f(x, d):
        keys, values, items = d.keys(), d.values(), d.items()
        d["z"] = 26
        both = keys & {"a", "z", "q"}
        return (
            len(keys),
            sorted(keys | {"m"}),
            sorted(both),
            sorted(keys - {"a"}),
            sorted(keys ^ {"a", "y"}),
            "a" in keys,
            26 in values,
            ("z", 26) in items,
            list(reversed(keys)),
            keys.isdisjoint({"n"}),
            keys == {"a", "z"},
            items <= {("a", 1), ("z", 26)},
            keys >= {"a"},
            x + list(values)[0],
        )

    run(f, t(), {"a": 1})
    run(f, t(), {"a": 1, "b": 5})


@whole
def dict_views_escape(run):
    def f(x, d):
        d["n"] = x + 1
        return d.keys(), d.items(), iter(d)

    def use(x):
        d = {"a": x}
        keys, items, it = run.compiled(f)(x, d)
        d["later"] = 1
        run.see(type(keys), list(keys), list(items))
        try:
            next(it)
        except RuntimeError as e:
            run.see(str(e))

    use(t())
    use(t(2))
    run(f, t(), {"k": 1})


@whole
def dict_methods(run):
    def f(x, d):
        got = d.get("a"), d.get("zz"), d.get("zz", x), d.setdefault("s", []), d.setdefault("a", 5)
        d["s"].append(x)
        popped = d.pop("a"), d.pop("none", 0), d.popitem()
        d.update({"u": 1}, v=2)
        d.update([("w", 3), "xy"])
        d |= {"or": 4}
        e = d | {"p": 1}
        g = dict.fromkeys("abc", 0)
        h = dict(zip("ab", range(2)), c=3)
        c = d.copy()
        d.clear()
        return got, popped, e, g, h, c, d, x * 2

    run(f, t(), {"a": 1, "b": 2})
    run(f, t(), {"a": 1, "b": 2, "c": 3})


@whole
def dict_errors(run):
    def f(x, d, which):
        try:
            if which == 0:
                d["zz"]
            elif which == 1:
                d.pop("zz")
            elif which == 2:
                {}.popitem()
            elif which == 3:
                d[[]]
            elif which == 4:
                d[{}] = 1
            elif which == 5:
                del d["q"]
            elif which == 6:
                dict([1, 2])
            elif which == 7:
                dict([(1, 2, 3)])
            elif which == 8:
                d < d
            elif which == 9:
                d + d
            elif which == 10:
                d[(1, [2])]
            elif which == 11:
                d.update(5)
            elif which == 12:
                d[1.5]
            elif which == 13:
                d[None]
            elif which == 14:
                d[x]
        except Exception as e:
            return x + 1, type(e), e.args if which != 14 else 0
        return x

    for which in range(15):
        run(f, t(), {"a": 1}, which)


@whole
def dict_comparisons(run):
    def f(x):
        a = {"a": 1, "b": [x]}
        b = {"b": a["b"], "a": 1}
        return a == b, a != b, a == {"a": 1}, a is b, {} == {}, {1: 2} == {1.0: 2}, x + 1

    run(f, t())
    run(f, t(1, 2))


@whole
def dict_merged_in_calls(run):
    def g(*args, **kwargs):
        return args, kwargs

    def f(x, d):
        try:
            g(**d, a=1)
        except TypeError as e:
            caught = str(e).split("()")[-1]
        else:
            caught = None
        return g(*d, **d), caught, {**d, "z": x, **{"q": 1}}, x + 1

    run(f, t(), {"a": 1})
    run(f, t(), {"b": 1})


@whole
def dict_tuple_and_mixed_keys(run):
    def f(x, d):
        d[(1, "a")] = x
        d[None] = x + 1
        d[2.5] = 3
        d[frozenset([1])] = 4
        return d[(1, "a")] + d[None], (1, "a") in d, d.get(frozenset([1])), d

    run(f, t(), {})
    run(f, t(), {(1, "a"): 0, (1, "b"): 1})


@whole
def dict_object_keys(run):
    class K:
        def __init__(self, v):
            self.v = v

        def __hash__(self):
            return hash(self.v)

        def __eq__(self, other):
            return isinstance(other, K) and self.v == other.v

        def __repr__(self):
            return f"K({self.v})"

    def f(x, d):
        d[K(1)] = x
        d[K(2)] = x + 1
        d[K(1)] = x + 2
        s = {K(1), K(2), K(1)}
        return len(d), d[K(2)], K(1) in d, K(9) in d, len(s), d.pop(K(1)), [k.v for k in d]

    run(f, t(), {})
    run(f, t(), {K(1): 0, K(5): 1})
    run(f, t(), {K(2): 0})


@whole
def dict_keys_with_colliding_hashes(run):
    log = []

    class K:
        def __init__(self, v):
            self.v = v

        def __hash__(self):
            log.append(("hash", self.v))
            return 7

        def __eq__(self, other):
            log.append(("eq", self.v, other.v))
            return self.v == other.v

    def f(x):
        d = {K(1): "a", K(2): "b"}
        d[K(1)] = "c"
        return x + len(d), list(d.values()), K(3) in d

    run(f, t())
    run.see(log)
    run(f, t())
    run.see(log)


@whole
def unhashable_objects(run):
    class E:
        def __eq__(self, other):
            return True

    def f(x):
        out = []
        for make in (lambda: {E(): 1}, lambda: {E()}, lambda: hash(E()), lambda: {[]: 1}, lambda: {(1, {}): 2}):
            try:
                make()
            except TypeError as e:
                out.append(str(e))
        return out, x + len(out)

    run(f, t())
    run(f, t())


@whole
def defaultdicts(run):
    def f(x, d):
        d["a"].append(x)
        d["b"]
        n = defaultdict(lambda: defaultdict(int))
        n["p"]["q"] += 2
        e = defaultdict(None, k=1)
        try:
            e["missing"]
        except KeyError as err:
            caught = err.args
        return d, n["p"], len(n["zz"]), "never" in d, d.get("never"), caught, d.default_factory, x + len(d)

    run(f, t(), defaultdict(list))
    run(f, t(), defaultdict(list, a=[1]))


@whole
def defaultdict_factory_changes(run):
    def f(x, d):
        return x + d["k"], d

    d = defaultdict(int)
    run(f, t(), d)
    d.default_factory = lambda: 5
    d.clear()
    run(f, t(), d)
    d.default_factory = None
    d.clear()
    run(f, t(), d)


@whole
def ordered_dicts(run):
    def f(x, d):
        d.move_to_end("a")
        d["new"] = x
        d.move_to_end("new", last=False)
        first = next(iter(d))
        last = next(reversed(d))
        popped = d.popitem(last=False)
        e = OrderedDict([("p", 1), ("q", 2)])
        same = e == OrderedDict([("q", 2), ("p", 1)]), e == {"q": 2, "p": 1}
        return list(d), first, last, popped[0], same, x + len(d), d, e

    run(f, t(), OrderedDict(a=1, b=2))
    run(f, t(), OrderedDict(a=1, b=2, c=3))


@whole
def ordered_dict_moved_between_calls(run):
    def f(x, d):
        out = x
        for i, v in enumerate(d.values()):
            out = out * (i + 1) + v
        return out, list(d)

    d = OrderedDict(a=1, b=2)
    run(f, t(), d)
    d.move_to_end("a")
    run(f, t(), d)
    d.move_to_end("a", last=False)
    run(f, t(), d)


@whole
def counters(run):
    def f(x, words):
        c = Counter(words)
        c["z"] += 1
        c.update(a=2)
        c.subtract({"b": 1})
        d = c + Counter("ab")
        e = c - Counter("aaaa")
        top = c.most_common(1)
        return (
            dict(c),
            dict(d),
            dict(e),
            dict(c & d),
            dict(c | d),
            top,
            c["nope"],
            sorted(c.elements()),
            c.total(),
            x * c["a"],
            c == Counter(c),
        )

    run(f, t(), "abca")
    run(f, t(), "aabbb")


@whole
def counter_argument(run):
    def f(x, c):
        c["a"] += 1
        c.update("bb")
        return x + c["b"], c, type(c)

    c = Counter("ab")
    run(f, t(), c)
    run(f, t(), c)
    run.see(c)


@whole
def chain_maps(run):
    def f(x, a, b):
        m = ChainMap(a, b)
        m["new"] = x
        n = m.new_child({"k": 5})
        out = m["k"], n["k"], len(m), "b" in m, n.parents["k"], list(m), m.get("none", 3)
        try:
            del m["b"]
        except KeyError:
            out += ("no",)
        return out, a, x + n["k"], n.maps[0]

    run(f, t(), {"k": 1}, {"k": 2, "b": 3})
    run(f, t(), {}, {"k": 2, "b": 3})


@whole
def user_dict_and_list(run):
    class Lower(UserDict):
        def __setitem__(self, k, v):
            super().__setitem__(k.lower(), v)

    class Twice(UserList):
        def append(self, v):
            super().append(v)
            super().append(v)

    def f(x):
        d = Lower(A=1)
        d["B"] = x
        d.update({"C": 3})
        a = Twice([1])
        a.append(x)
        a += [7]
        return dict(d), "a" in d, len(a), a[1:3].data, a.data, x + d["c"], sorted(d), d.get("zz")

    run(f, t())
    run(f, t(2))


@whole
def user_dict_argument(run):
    def f(x, d, a):
        d["n"] = x + d["k"]
        a.append(1)
        return len(d), len(a), d.pop("k")

    run(f, t(), UserDict(k=1), UserList([2]))
    run(f, t(), UserDict(k=1, j=2), UserList([]))


@whole
def dict_subclass_with_missing(run):
    class M(dict):
        def __missing__(self, key):
            self[key] = key + "!"
            return self[key]

    def f(x, m):
        n = M(a=1)
        return m["q"], m["q"], m.get("w"), n["z"], n, m, x + len(m), "{a}{b}".format_map(n)

    run(f, t(), M())
    run(f, t(), M(q="there"))


@whole
def dict_subclass_overrides(run):
    class D(dict):
        def __getitem__(self, k):
            return ("got", super().__getitem__(k))

        def __contains__(self, k):
            return True

        def __len__(self):
            return 99

        def keys(self):
            return ["fake"]

    def f(x, d):
        return d["a"], d.get("a"), "zz" in d, len(d), list(d), d.keys(), list(d.values()), bool(d), dict(d), x + 1

    run(f, t(), D(a=1))
    run(f, t(), D(a=2))


@whole
def list_subclass(run):
    class L(list):
        def append(self, v):
            super().append((v, len(self)))

        @property
        def last(self):
            return self[-1]

        def __getitem__(self, i):
            return super().__getitem__(i) if isinstance(i, slice) else list.__getitem__(self, i)

    def f(x):
        a = L([1])
        a.append(x)
        a.tag = "t"
        return a, a.last, a[0:1], len(a), type(a + [1]), type(a * 2), x + 1, a == [1, a[1]]

    run(f, t())
    run(f, t())


@whole
def list_subclass_argument(run):
    class L(list):
        pass

    def f(x, a):
        a.append(x)
        a.seen = len(a)
        return a, x + len(a)

    run(f, t(), L([1]))
    run(f, t(), L())
    a = L()
    a.seen = 10
    run(f, t(), a)


@whole
def tuple_subclass(run):
    class P(tuple):
        def __new__(cls, a, b):
            return super().__new__(cls, (a, b))

        @property
        def a(self):
            return self[0]

    def f(x, p):
        q = P(x, 2)
        return q.a + p.a, q, len(q), q == (q[0], 2), p + (1,), type(q[:1]), hash(p) == hash(tuple(p))

    run(f, t(), P(1, 2))
    run(f, t(), P(3, 4))


@whole
def named_tuples(run):
    P = namedtuple("P", "a b c", defaults=[0])

    def f(x, p):
        q = P(x, b=2)
        r = q._replace(b=5)
        s = P._make([1, 2, 3])
        a, *rest = p
        return (
            q,
            r,
            s,
            p._asdict(),
            P._fields,
            p.b,
            rest,
            s < P(1, 2, 4),
            x + r.b,
            P._field_defaults,
            p.count(1),
            q[0] is x,
        )

    run(f, t(), P(1, 2))
    run(f, t(), P(1, 1, 1))


@whole
def named_tuple_errors(run):
    P = namedtuple("P", "a b")

    def f(x, which):
        p = P(1, 2)
        try:
            if which == 0:
                P(1)
            elif which == 1:
                p.a = 3
            elif which == 2:
                p._replace(z=1)
            elif which == 3:
                P(1, 2, 3)
            elif which == 4:
                p.zz
            elif which == 5:
                P._make([1])
        except Exception as e:
            return x + 1, type(e), str(e).replace("P.", "")
        return x

    for which in range(6):
        run(f, t(), which)


@whole
def sets(run):
    def f(x, s):
        a = {3, 1, 2}
        b = frozenset([2, 3, 4])
        s.add(5)
        s.discard(77)
        u = a | b, a & b, a - b, a ^ b, b | a, type(b & a), type(a & b)
        a |= {9}
        a -= {1}
        a &= {2, 3, 9}
        a ^= {100}
        return (
            u,
            a,
            a <= {2, 3, 9, 100},
            a < a,
            b.issuperset([2]),
            a.isdisjoint([7]),
            a.union([1], (2,)),
            sorted(a.symmetric_difference([2])),
            {1, 2} == frozenset([2, 1]),
            s,
            x + len(s),
            b.copy() is b,
        )

    run(f, t(), {1})
    run(f, t(), {1, 5})


@whole
def set_order(run):
    def f(x, s):
        a = {10, 3, 99, 64, 7, 1024}
        b = set(range(20, 0, -3))
        b.remove(8)
        b.add(1000)
        c = {v * 8 for v in range(9)}
        d = a | c
        return list(a), list(b), list(c), list(d), list(d - a), list(s), [v for v in s], x + 1

    run(f, t(), {5, 1, 33})
    run(f, t(), {33, 5, 1, 65})


@split
def set_of_strings_order(run):
    def f(x, s):
        a = set("tensor") | s
        a.discard("t")
        return list(a), "".join(a), a.pop() in "ensor" or True, x + len(a)

    run(f, t(), {"q"})
    run(f, t(), {"z", "y"})


@split
def set_pop(run):
    def f(x, s):
        a = {3, 50, 2}
        first = a.pop()
        got = s.pop()
        try:
            set().pop()
        except KeyError as e:
            why = e.args
        return first, a, got, s, why, x + first

    run(f, t(), {41, 7, 9})
    run(f, t(), {1})


@whole
def set_errors(run):
    def f(x, which):
        s = {1, 2}
        try:
            if which == 0:
                s.remove(5)
            elif which == 1:
                s | [1]
            elif which == 2:
                s.add([])
            elif which == 3:
                for v in s:
                    s.add(v + 10)
            elif which == 4:
                s < [1]
            elif which == 5:
                frozenset().add(1)
            elif which == 6:
                s.remove({5})
        except Exception as e:
            return x + 1, type(e), e.args
        return x

    for which in range(7):
        run(f, t(), which)


@whole
def set_mutated_argument(run):
    def f(x, s):
        s |= {7, 8}
        s.discard(1)
        return x * len(s)

    s = {1, 2}
    run(f, t(), s)
    run.see(s)
    run(f, t(), s)
    s.clear()
    run(f, t(), s)
    run.see(s)


@whole
def frozenset_members(run):
    def f(x, s):
        d = {frozenset([1, 2]): x}
        return d[frozenset((2, 1))], s in d, {frozenset(), frozenset([1])} == {frozenset([1]), frozenset()}

    run(f, t(), frozenset([1, 2]))
    run(f, t(), frozenset([3]))


@whole
def deques(run):
    def f(x, q):
        d = deque([1, 2, 3], maxlen=3)
        d.append(x)
        d.appendleft(0)
        d.extend([5, 6])
        d.extendleft([7])
        d.rotate(-1)
        q.append(x + 1)
        q.popleft()
        e = deque("abcde")
        del e[1]
        e[0] = "z"
        e.insert(2, "i")
        e.remove("d")
        e.reverse()
        return d, d.maxlen, list(q), e, e.index("i"), e.count("z"), "c" in e, e[-1], len(q), d == deque(d), x + len(e)

    run(f, t(), deque([1, 2]))
    run(f, t(), deque([1, 2, 3], maxlen=3))


@whole
def deque_errors(run):
    def f(x, which):
        d = deque([1])
        try:
            if which == 0:
                deque().pop()
            elif which == 1:
                d[3]
            elif which == 2:
                d.remove(9)
            elif which == 3:
                for v in d:
                    d.append(v)
            elif which == 4:
                deque([1], 1).insert(0, 2)
            elif which == 5:
                d[0:1]
            elif which == 6:
                d.index(7)
        except Exception as e:
            return x + 1, type(e), e.args
        return x

    for which in range(7):
        run(f, t(), which)


@whole
def tuples(run):
    def f(x, a):
        b = a + (x,)
        c = b * 2
        return b, c[1:], a.index(1), a.count(1), a < (2,), a == (1, 2), (1, 2) in [a], b[-1] is x, x + len(c)

    run(f, t(), (1, 2))
    run(f, t(), (1,))


@(whole if sys.version_info >= (3, 11) else split)  # 3.10 makes empty tuples beside the shared one
def empty_tuple_is_one_object(run):
    def f(x):
        return x + 1, () is ()

    run(f, t())


@whole
def nested_mutation_through_tuple(run):
    def f(x, p):
        p[0].append(x)
        p[1]["k"] = p[0]
        try:
            p[0] = 3
        except TypeError as e:
            return str(e), x + 1, p

    run(f, t(), ([], {}))
    run(f, t(), ([1], {"k": 0}))


@whole
def tuple_with_inplace_add(run):
    def f(x, p):
        try:
            p[0] += [x]
        except TypeError as e:
            return str(e), p[0], x + 1

    run(f, t(), ([1], 2))
    run(f, t(), ([], 2))


@split
def comparison_of_lists_with_tensors_inside(run):
    def f(x, y):
        a = [1, x]
        return a == [1, x], a == [2, y], [x] == [x], (x, 1) < (x, 2), x in [y, x] if x is y else None, a.index(x)

    x = t()
    run(f, x, x)
    run(f, x, t(5, 6, 7))


@whole
def memberships_by_identity_and_equality(run):
    class Never:
        def __eq__(self, other):
            return False

        __hash__ = None

    def f(x):
        n = Never()
        nan = float("nan")
        return n in [n], n == n, nan in [nan], [nan] == [nan], nan == nan, [n].index(n), [n].count(n), x + 1

    run(f, t())
    run(f, t())


@whole
def containers_that_hold_tensors_mutated_in_place(run):
    def f(x, d):
        for v in d.values():
            v.add_(1)
        d["sum"] = d["a"] + d["b"]
        return d["sum"] + x

    a = t()
    run(f, t(), {"a": a, "b": a})
    run(f, t(), {"a": t(), "b": t()})
    run.see(a)


@whole
def dict_from_keys_of_class(run):
    class D(dict):
        def __setitem__(self, k, v):
            super().__setitem__(k, (v,))

    def f(x):
        a = D.fromkeys(["a"], 1)
        b = D(a=1)
        b["b"] = x
        b.setdefault("c", 2)
        b.update(d=3)
        return a, b, type(a), x + len(b)

    run(f, t())
    run(f, t())


@whole
def bytes_and_bytearrays(run):
    def f(x, b):
        a = b"ab" + b
        return (
            a,
            a[0],
            a[1:],
            a.hex(),
            a.upper(),
            list(a),
            b"b" in a,
            a.split(b"b"),
            bytes([65, 66]),
            a.decode(),
            x + a[0],
        )

    run(f, t(), b"cd")
    run(f, t(), b"")


@split
def bytearray_and_memoryview(run):
    def f(x, b):
        a = bytearray(b"ab")
        a.append(99)
        a[0] = 65
        m = memoryview(a)
        b.extend(b"zz")
        return bytes(a), m[1], len(m), x + a[2], b

    run(f, t(), bytearray(b"q"))
    run(f, t(), bytearray(b""))


@split
def arrays(run):
    import array

    def f(x, a):
        a.append(3)
        return x + a[0], len(a)

    run(f, t(), array.array("i", [1, 2]))
    run(f, t(), array.array("i", [1, 2, 3]))


@whole
def ranges(run):
    def f(x, r):
        return (
            len(r),
            r[1],
            r[::-1],
            list(r),
            3 in r,
            r.index(2),
            r.start,
            r.step,
            r == range(1, 5),
            x * r[-1],
            reversed(r),
        )

    run(f, t(), range(1, 5))
    run(f, t(), range(2, 9, 3) if False else range(1, 4))


@whole
def slices(run):
    def f(x, s):
        a = list(range(10))
        q = slice(1, None, 2)
        return a[s], a[q], s.start, q.indices(10), x[s], s == slice(0, 2), slice(3)

    run(f, t(), slice(0, 2))
    run(f, t(), slice(None, None, 2))


@whole
def list_in_place_on_attribute_and_item(run):
    class H:
        def __init__(self):
            self.items = [1]
            self.d = {"n": 0}

    def f(x, h):
        h.items += [x]
        h.items *= 2
        h.d["n"] += 1
        h.d["l"] = h.d.get("l", ()) + (h.d["n"],)
        return h.items, x + h.d["n"]

    h = H()
    run(f, t(), h)
    run(f, t(), h)
    run.see(h)


@whole
def unpacking(run):
    def f(x, a):
        p, *q = a
        *r, s = a
        (u, v), w = (p, s), [*q, *r]
        first, (second, *_) = 1, "abc"
        return p, q, r, s, u, v, w, second, {*a}, {**{"a": 1}}, [*range(2), *"ab"], x + p

    run(f, t(), [1, 2, 3])
    run(f, t(), (4, 5))


@whole
def unpacking_errors(run):
    def f(x, a, n):
        try:
            if n == 0:
                p, q = a
            elif n == 1:
                p, q, *r = a
            elif n == 2:
                (p,) = a
            elif n == 3:
                p, q = 5
            else:
                p, q = {"a": 1, "b": 2}
        except (ValueError, TypeError) as e:
            return x + 1, str(e)
        return x

    for n in range(5):
        run(f, t(), [1], n)
        run(f, t(), [1, 2, 3], n)


@split
def constant_tuples_are_one_object(run):
    def pair():
        return (1, ("a", 2.5))

    def f(x):
        first, second = pair(), pair()
        return x + 1, first is second, pair.__code__.co_consts is pair.__code__.co_consts, first

    def g(x):
        return x + 1, pair()

    run(f, t())
    _, kept = run.compiled(g)(t())
    _, again = run.compiled(g)(t())
    run.see(kept is again, kept is pair(), kept[1] is pair()[1])


@split
def sets_of_very_many(run):
    many = set(range(5_000))

    def f(x, k):
        return x + 1 if k in many else x - 1

    run(f, t(), 3)
    run(f, t(), 5_000)
    many.add(5_000)
    run(f, t(), 5_000)


@whole
def reversed_follows_the_list(run):
    def f(x, items):
        seen = []
        for item in reversed(items):
            seen.append(item)
            if len(items) > 2:
                items.pop()
                items.pop()
        left = reversed(items)
        first = next(left)
        items.append(9)
        return seen, first, left, list(reversed((1, 2))), type(reversed([])) is type(left), x + 1

    run(f, t(), [1, 2, 3, 4])
    run(f, t(), [])


@split
def reversed_asks_the_class(run):
    class Old:
        def __init__(self):
            self.asked = []

        def __len__(self):
            return 3

        def __getitem__(self, index):
            self.asked.append(index)
            return index * 2

    class Never(Old):
        __reversed__ = None

    def f(x, value):
        backwards = reversed(value)
        value.asked.append("made")
        return next(backwards), list(backwards), value.asked, x + 1

    run(f, t(), Old())
    run(f, t(), Never())
    run(f, t(), {1})


@whole
def default_factories_that_are_none(run):
    def f(x, factory):
        try:
            made = defaultdict(factory)
        except TypeError as error:
            return str(error), x + 1
        return made, x + 1

    run(f, t(), None)
    run(f, t(), list)
    run(f, t(), 1)
    run(f, t(), {})


@split
def reversed_deques(run):
    def f(x, d):
        left = reversed(d)
        out = [next(left)]
        graph_break()
        out += left
        again, ended = reversed(d), reversed(d)
        list(ended)
        next(again)
        graph_break()
        d.append(9)
        try:
            next(again)
        except RuntimeError as error:
            out.append(str(error))
        return out, type(again).__name__, list(ended), x + 1

    run(f, t(), deque([1, 2, 3]))
    run(f, t(), deque([5, 6], 2))


@split
def large_set_of_words_rebuilt(run):
    def f(x):
        # fmt: off
        words = {"ax", "along", "a_1", "aName", "azz", "bx", "blong", "b_1", "bName", "bzz", "cx", "clong", "c_1", "cName", "czz", "dx", "dlong", "d_1", "dName", "dzz", "ex", "elong", "e_1", "eName", "ezz", "fx", "flong", "f_1", "fName", "fzz", "gx", "glong", "g_1", "gName", "gzz", "hx", "hlong", "h_1", "hName", "hzz", "ix", "ilong", "i_1", "iName", "izz", "jx", "jlong", "j_1", "jName", "jzz"}
        # fmt: on
        first = tuple(words)
        graph_break()
        return first == tuple(words), x + 1

    run(f, t())


@split
def writing_functions_of_a_second_operator_module(run):
    again = import_helper.import_fresh_module("operator", fresh=["_operator"])

    def f(x, items):
        again.delitem(items, 1)
        again.setitem(items, 0, 9)
        again.iadd(items, [5])
        return items, again.length_hint(items), x + 1

    run(f, t(), [4, 3, 2, 1])


@whole
def update_by_names_of_any_kind(run):
    def f(x, d):
        d.update(self=1, tracer=x)
        return d, x + 1

    run(f, t(), {})


@whole
def ordered_dict_from_keys_with_a_value(run):
    def f(x):
        made = OrderedDict.fromkeys("abc", value=0), OrderedDict.fromkeys("ab", 1), dict.fromkeys("a")
        return x + 1, [list(d.items()) for d in made]

    run(f, t())


@split
def methods_of_dict_on_an_ordered_dict(run):
    class Sub(OrderedDict):
        pass

    def f(x, cls, change):
        d = cls(first=1, second=2)
        y = x + 1
        change(d)
        try:
            return y, repr(d)
        except KeyError as error:
            return y, error.args

    for cls in (OrderedDict, Sub):
        run(f, t(), cls, lambda d: dict.__delitem__(d, "first"))
        run(f, t(), cls, lambda d: dict.pop(d, "first"))
        run(f, t(), cls, lambda d: dict.popitem(d))


@split
def an_iterator_over_a_dict_that_changed_goes_through_a_break(run):
    def f(x, d):
        keys = iter(d)
        if x.sum() > 0:
            next(keys)
        del d["a"]
        graph_break()
        try:
            return x + 1, next(keys)
        except RuntimeError as error:
            return x + 2, str(error)

    for cls in (dict, OrderedDict):
        run(f, t(), cls(a=1, b=2, c=3))
        run(f, -t(), cls(a=1, b=2, c=3))


@split
def iterators_over_a_deque_that_changes(run):
    def moved(x, d):
        items = iter(d), reversed(d)
        d.pop()
        graph_break()
        try:
            return x + 1, next(items[0])
        except RuntimeError as error:
            return x + 2, str(error)

    def replaced(x, d, items):
        for index in range(len(d)):
            d[index] = index + 10
        try:
            d[9] = 1
        except IndexError as error:
            return x + 1, list(items), str(error)

    run(moved, t(), deque("abc"))
    d = deque("abc")
    items = iter(d)
    run(replaced, t(), d, items)


def _subclasses_of_dicts():
    class Item(OrderedDict):
        def __getitem__(self, key):
            return 100

    class Keys(OrderedDict):
        def keys(self):
            return ["z"]

        def __getitem__(self, key):
            return 7

    class Unseen(dict):
        def __getitem__(self, key):
            return 100

        def keys(self):
            return ["q"]

    class Iterated(dict):
        def __iter__(self):
            return iter(("a",))

        def __getitem__(self, key):
            return 5

    class Plain(OrderedDict):
        pass

    return [cls(a=1) for cls in (Item, Keys, Unseen, Iterated, Plain)]


@whole
def entries_of_subclasses_of_dicts(run):
    def named(**entries):
        return list(entries.items())

    def f(x, d):
        updated = {"b": 1}
        updated.update(d)
        changed = {"c": 1}
        changed |= d
        ordered = OrderedDict(b=2)
        ordered.update(d)
        made = [{**d}, dict(d, z=3), OrderedDict(d), defaultdict(list, d), updated, changed, ordered]
        return x + 1, [list(one.items()) for one in made], named(**d), named(b=2, **d)

    for d in _subclasses_of_dicts():
        run(f, t(), d)


@split
def copies_of_subclasses_of_dicts(run):
    def copied(x, d):
        return x + 1, dict.copy(d)

    def before(x, d):
        return x + 1, d | {"b": 1}

    def behind(x, d):
        return x + 1, {"b": 1} | d

    for f in (copied, before, behind):
        for d in _subclasses_of_dicts():
            run(f, t(), d)


@pytest.mark.parametrize("scenario,is_whole", S.found, ids=lambda p: getattr(p, "__name__", ""))
def test_containers(scenario, is_whole):
    check_scenario(scenario, is_whole)
