"""Syntax and text: pattern matching, walrus, chained comparisons, formatting, string and number methods, loops."""

# ruff: noqa
from __future__ import annotations

import collections
import dataclasses

import pytest
import torch
from lampwork_capture import graph_break
from scenarios import Scenarios, check_scenario

S = Scenarios()
whole, split = S.whole, S.split


def t(*values):
    return torch.tensor([float(v) for v in values] or [1.0, 2.0, 3.0])


@whole
def match_literals_and_captures(run):
    def f(x, v):
        match v:
            case 0 | 1:
                return x, "bit"
            case int(n) if n > 100:
                return x + n, "big"
            case int() | float() as n:
                return x * n, "number"
            case "a" | "b":
                return x, "letter"
            case str(s) if s.isdigit():
                return x + int(s)
            case None:
                return x, "none"
            case True:
                return "never"
            case []:
                return x, "empty"
            case [a]:
                return x, a
            case [a, b, *rest] if rest:
                return x, a, b, rest
            case (a, b):
                return x, b, a
            case {"k": k, **rest}:
                return x, k, rest
            case {}:
                return x, "mapping"
            case _:
                return x, "other"

    for v in (
        0,
        500,
        2.5,
        "a",
        "42",
        None,
        True,
        [],
        [1],
        [1, 2, 3],
        (1, 2),
        {"k": 1, "z": 2},
        {"q": 1},
        {1},
        "zz",
        range(2),
    ):
        run(f, t(), v)


@whole
def match_classes(run):
    class P:
        __match_args__ = ("a", "b")

        def __init__(self, a, b):
            self.a, self.b = a, b

    @dataclasses.dataclass
    class D:
        v: int
        w: object = None

    class Shape:
        kind = "sq"

    def f(x, v):
        match v:
            case P(0, b=0):
                return x, "origin"
            case P(a, b) if a == b:
                return x * a, "diag"
            case P(a=a):
                return x, a
            case D(1):
                return x, "d1"
            case D(v=n, w=D(v=m)):
                return x, n, m
            case D():
                return x, "d"
            case Shape(kind="sq" as k):
                return x, k
            case collections.OrderedDict():
                return x, "od"
            case {"a": {"b": [_, y]}}:
                return x, y
            case [P(a, _), D(b)]:
                return x, a, b
            case _:
                return x

    for v in (
        P(0, 0),
        P(2, 2),
        P(3, 4),
        D(1),
        D(2, D(5)),
        D(7),
        Shape(),
        collections.OrderedDict(),
        {"a": {"b": [1, 2]}},
        [P(1, 2), D(3)],
        5,
    ):
        run(f, t(), v)


@whole
def match_with_properties_and_constants(run):
    class K:
        LIMIT = 5

    class A:
        __match_args__ = ("p",)

        @property
        def p(self):
            return 5

    def f(x, v):
        match v:
            case K.LIMIT:
                return x, "limit"
            case A(K.LIMIT):
                return x, "prop"
            case -1 | 1.5 | 2 + 3j:
                return x, "num"
            case b"by":
                return x, "bytes"
            case [1, [2, [3, *_]], *_]:
                return x, "nested"
            case dict(d) if len(d) > 1:
                return x, d
            case tuple((a, b)):
                return x, a, b
        return x, "fell"

    for v in (5, A(), -1, 1.5, 2 + 3j, b"by", [1, [2, [3, 4]], 9], {1: 1, 2: 2}, (1, 2), "z"):
        run(f, t(), v)


@split
def equal_constants_behind_a_break_are_two_objects(run):
    def f(x):
        word, phrase, number, negative = "several", "two words", 1000000, -0.0
        thousand, zero = 1000, 0.0
        words, phrases, numbers = word[:3] + word[3:], phrase[:3] + phrase[3:], thousand * thousand
        again = word
        graph_break()
        assert words == word and phrases == phrase and numbers == number
        return x + 1, words is word, phrases is phrase, numbers is number, word is again, [negative, zero]

    run(f, t())


@split
def match_errors(run):
    class P:
        __match_args__ = ("a",)

    def f(x, v):
        try:
            match v:
                case P(1, 2):
                    return x
        except TypeError as e:
            return x + 1, str(e).replace("match_errors.<locals>.", "")
        return x

    run(f, t(), P())
    run(f, t(), 3)


@split
def match_mapping_subclasses(run):
    class M(dict):
        def __missing__(self, k):
            return "made up"

    def f(x, v):
        match v:
            case {"a": a, "b": b}:
                return x, a, b
            case {"a": a}:
                return x, a
        return x

    run(f, t(), collections.defaultdict(int, a=1))
    run(f, t(), M(a=1))
    run(f, t(), collections.OrderedDict(a=1, b=2))
    run(f, t(), collections.ChainMap({"a": 1}, {"b": 2}))


@whole
def walrus_and_conditionals(run):
    def f(x, items):
        if (n := len(items)) > 2 and (first := items[0]):
            y = x * n + first
        else:
            y = x - n
        out = [z for v in items if (z := v * 2) > 2]
        w = (a := 1, b := a + 1)
        while (k := len(out)) > 1:
            out.pop()
        return y, out, w, k, "pos" if n else "zero", not items or items[-1]

    run(f, t(), [1, 2, 3])
    run(f, t(), [])
    run(f, t(), [5])


@whole
def chained_comparisons(run):
    def f(x, a, b):
        calls = []

        def c(v):
            calls.append(v)
            return v

        r = c(1) < c(a) <= c(b) < c(10)
        return r, calls, a == b == 2, a < b > 1 != 5, 1 in [a] == True, a is b is not None, x + a

    run(f, t(), 2, 3)
    run(f, t(), 0, 3)
    run(f, t(), 2, 2)


@whole
def loops(run):
    def f(x, n):
        out = []
        for i in range(n):
            if i == 1:
                continue
            for j in range(i):
                if j == 2:
                    break
                out.append((i, j))
            else:
                out.append("inner done")
            if i == 4:
                break
        else:
            out.append("outer done")
        i = 0
        while i < n:
            i += 1
            if i == 3:
                break
        else:
            out.append("while done")
        return out, i, x + len(out)

    run(f, t(), 3)
    run(f, t(), 6)
    run(f, t(), 0)


@whole
def loop_variables_leak(run):
    def f(x, items):
        for i, (a, *b) in enumerate(items):
            x = x + a
        try:
            return x, i, a, b
        except UnboundLocalError as e:
            return "empty", x + 1

    run(f, t(), [(1, 2), (3, 4, 5)])
    run(f, t(), [])


@whole
def assignment_targets(run):
    class H:
        pass

    def f(x):
        h = H()
        h.d = {}
        a = [0] * 3
        a[0], h.v, h.d["k"], (p, q), *r = 1, 2, 3, (4, 5), 6, 7
        i = 0
        i, a[i] = 1, 9
        b = c = []
        b.append(1)
        (m), [n] = 1, [2]
        for h.loop in range(3):
            pass
        for a[2] in "xy":
            pass
        a[0] += 5
        h.d["k"] **= 2
        return h, a, p, q, r, i, c, m, n, x + h.v

    run(f, t())
    run(f, t())


@whole
def evaluation_order(run):
    def f(x):
        log = []

        def n(v, result=None):
            log.append(v)
            return v if result is None else result

        d = {}
        n(1, d)[n(2)] = n(3)
        {n("k1"): n("v1"), n("k2"): n("v2")}
        n("f", lambda *a, **k: 0)(n("a"), *n("b", [1]), k=n("c"), **n("d", {}))
        n("x") < n("y") if n("cond") else n("no")
        [n(4), n(5)][n(0, 1)]
        n("or", 0) or n("or2")
        n("and", 0) and n("never")
        a = n("l", [1, 2])
        a[n("i", 0)] += n("r") if False else 1
        return log, x + len(log)

    run(f, t())
    run(f, t())


@whole
def formatted_strings(run):
    def f(x, name, v):
        w = 10
        return (
            f"{name}", f"{name!r:>{w}}", f"{v:.2f}|{v:>{w}.{2}}|{v:e}", f"{v=}", f"{name = !s}", f"{{}}{name[0]}", f"{x.shape}",
            f"{len(name):03d}", f"{1000000:,}", f"{255:#x} {255:b} {0.5:%}", f"{'nested ' + f'{name}'}", f"{None} {True} {[1, 'a']} {{'k': 1}}",
            f"{x.dtype} {x.device} {x.ndim}", f"{(1, 2)!s:^10}", f"{name:*^9}", f"a{'b' 'c'}d", f"{1 + 1j}", f"{3!a}", f"{b'q'}", x + 1,
        )  # fmt: skip

    run(f, t(), "layer", 1.5)
    run(f, t(), "q", 2.0)


@split
def format_methods(run):
    class A:
        attr = [1, 2]

        def __format__(self, spec):
            return f"A<{spec}>"

    def f(x, d):
        return (
            "{} {}".format(1, "a"), "{1} {0} {1}".format("a", "b"), "{n} {n!r}".format(n="q"), "{0.attr[1]} {0:zz}".format(A()),
            "{:>{w}}".format(1, w=5), "{a[k]}".format(a={"k": 3}), "%s %d %5.2f %r %%" % ("a", 3, 2.5, "q"), "%(k)s-%(j)03d" % d,
            "{k} {j}".format(**d), "{k}".format_map(d), "%s" % (1,), "%s" % [1], "%x %o %c" % (255, 8, "z"), "%-5s|" % "a", "%s %s" % (A(), 1) != "",
            "{}".format(A()), format(3.14159, ".2f"), "{:,.1f}".format(12345.6), "{!r}".format("s"), "%*d" % (5, 3), x + 1,
        )  # fmt: skip

    run(f, t(), {"k": "kk", "j": 7})
    run(f, t(), {"k": 1, "j": 8})


@whole
def format_of_objects(run):
    class A:
        attr = [1, 2]

        def __init__(self, name):
            self.name = name

        def __format__(self, spec):
            return f"A<{spec}>{self.name}"

        def __repr__(self):
            return f"A({self.name!r})"

    def f(x, a):
        try:
            "{0.nope}".format(a)
        except AttributeError as error:
            message = str(error)
        return (
            x + 1, "{0.attr[1]} {0:zz} {0.name!r:>6}".format(a), "{!r} {a!s}".format(a, a=a), "{d[k]:{w}}".format(d={"k": a}, w=4),
            "{}".format(a), "{a.name} {b}".format_map({"a": a, "b": 2}), "{0[1].name}".format([1, a]), message,
        )  # fmt: skip

    run(f, t(), A("n"))
    run(f, t(), A("m"))
    A.__format__ = lambda self, spec: "changed"
    run(f, t(), A("m"))


@whole
def format_errors(run):
    def f(x, which):
        try:
            if which == 0:
                "%d" % "a"
            elif which == 1:
                "{} {}".format(1)
            elif which == 2:
                "%s %s" % (1,)
            elif which == 3:
                f"{'a':d}"
            elif which == 4:
                "{k}".format()
            elif which == 5:
                "%s" % (1, 2)
            elif which == 6:
                format([], "d")
            elif which == 7:
                "a" + 1
            elif which == 8:
                "abc"[10]
            elif which == 9:
                "a".index("z")
            elif which == 10:
                ",".join([1])
            elif which == 11:
                "abc"["q"]
        except Exception as e:
            return x + 1, type(e), str(e)

    for which in range(12):
        run(f, t(), which)


@whole
def string_methods(run):
    def f(x, s):
        return (
            s.upper(), s.title(), s.split(), s.split("b", 1), s.rsplit("b", 1), s.partition("b"), s.replace("b", "ZZ"), s.strip("a"),
            s.startswith(("a", "q")), s.endswith("c"), s.find("b"), s.rfind("z"), s.count("b"), s.center(9, "*"), s.zfill(6), s.ljust(5) + "|",
            s.isalpha(), s.isdigit(), s.casefold(), s.swapcase(), s.encode(), s[::-1], s * 2, "b" in s, s < "b", s == "a b c", sorted(s),
            "-".join(s), s.splitlines(), "a\tb".expandtabs(4), s.translate({97: "X"}), s.removeprefix("a"), s.removesuffix("c"), list(s),
            s.maketrans("a", "b"), "%".join(["x", "y"]), s.index("b"), s.isidentifier(), s.capitalize(), s.isspace(), ord(s[0]), chr(98), max(s),
            "é".encode("latin-1"), ascii("é"), "".join(map(str, range(3))), len(s), hash(s) == hash("".join(list(s))), x * len(s),
        )  # fmt: skip

    run(f, t(), "a b c")
    run(f, t(), "abc")


@whole
def number_operations(run):
    def f(x, a, b):
        return (
            a + b, a - b, a * b, a / b, a // b, a % b, a**b, -a, +a, abs(-a), divmod(a, b), round(a / b, 3), int(a / b), float(a), bool(a),
            pow(a, b, 7) if isinstance(a, int) and isinstance(b, int) and b >= 0 else 0, a == b, a < b, max(a, b), complex(a, b), (a + 0.0).is_integer(),
            isinstance(a, int), type(a + 0.5), a and b, a or b, not a, 0.1 + 0.2, 1e308 * 10, -7 // 2, -7 % 3, 7 // -2, 2**100, 10**20 // 3,
            x * a, x + b, (5).bit_length(), (3).to_bytes(2, "big"), int.from_bytes(b"ab", "little"), (2.5).as_integer_ratio(), float.fromhex("0x1p3"),
            hex(255), bin(5), oct(8), int("ff", 16), int("0b11", 0), float("1e-3"), round(2.5), round(-1.5), round(1234, -2), 5 & 3, 5 | 3, 5 ^ 3, ~5, 1 << 4, 3.0 == 3,
        )  # fmt: skip

    run(f, t(), 7, 2)
    run(f, t(), 2.5, 3)
    run(f, t(), True, 3)


@whole
def tensor_and_python_numbers(run):
    def f(x, n):
        y = n - x
        y = y / n
        y = n**x
        y += n
        y = n // (x + 1)
        return (
            y,
            x[n % 3],
            x[:n],
            x * True,
            x > n,
            (x > 1) & (x < n),
            -x + n,
            abs(x - n),
            n @ x if False else x @ x,
            x.sum() * n,
        )

    run(f, t(), 2)
    run(f, t(), 3)


@whole
def nan_zero_and_bool_guards(run):
    def f(x, v):
        return x * v, v == v, bool(v), v is True

    for v in (0.0, -0.0, float("nan"), 1, True, 1.0, False, 0, float("inf")):
        run(f, t(), v)


@whole
def ternary_and_boolean_values(run):
    def f(x, a, b):
        return (a or b), (a and b), (not a) is b, [a][0] if a else b, x + (1 if a else 2), (a or x) is x

    run(f, t(), [], 3)
    run(f, t(), 0, "")
    run(f, t(), [1], None)
    run(f, t(), {}, ())


@whole
def del_statements(run):
    class H:
        pass

    def f(x, d, a):
        h = H()
        h.v = x
        y = 1
        del h.v, d["k"], a[0], y
        out = [hasattr(h, "v"), d, a]
        del d["z"], a[:]
        return out, a, d, x + len(out)

    run(f, t(), {"k": 1, "z": 2}, [1, 2, 3])
    run(f, t(), {"k": 1, "z": 2, "y": 3}, [1])


@whole
def ellipsis_and_slices_on_tensors(run):
    def f(x):
        m = x.view(1, 3)
        k = (0, slice(None, 2))
        return m[..., 0], m[k], m[None], m[0, ::2], m[:, [0, 2]], m[0][1], x[-1], x[x > 1].shape if False else 0

    run(f, t())
    run(f, t(4, 5, 6))


@whole
def global_constants_and_types(run):
    def f(x):
        return (
            __name__ is not None,
            ...,
            NotImplemented,
            __debug__,
            x + 1,
            int | str,
            list[int],
            type(None),
            type(...),
            type(f).__name__,
        )

    run(f, t())
    run(f, t())


@whole
def complex_comprehensions(run):
    def f(x, rows):
        return (
            {k: v for d in rows for k, v in d.items() if v},
            [(i, k) for i, d in enumerate(rows) for k in d],
            {len(d) for d in rows},
            [[x * v for v in d.values()] for d in rows],
            {k: [d.get(k, 0) for d in rows] for k in sorted({k for d in rows for k in d})},
            list(map(lambda d: sum(d.values()), rows)),
            next((d for d in rows if len(d) > 1), None),
            sum(1 for d in rows for _ in d),
        )

    run(f, t(), [{"a": 1}, {"b": 0, "c": 2}])
    run(f, t(), [{"a": 1}])


@pytest.mark.parametrize("scenario,is_whole", S.found, ids=lambda p: getattr(p, "__name__", ""))
def test_syntax(scenario, is_whole):
    check_scenario(scenario, is_whole)
