"""Generators and iterators: made inside, passed in, half consumed, abandoned, thrown into, used after the call."""

# ruff: noqa
from __future__ import annotations

import functools
import itertools
import operator

import pytest
import torch
from scenarios import Scenarios, check_scenario

S = Scenarios()
whole, split = S.whole, S.split


def t(*values):
    return torch.tensor([float(v) for v in values] or [1.0, 2.0, 3.0])


@split
def list_iterator_passed_in(run):
    def f(x, it):
        first = next(it)
        return x + first, list(it), next(it, "end")

    run(f, t(), iter([1, 2, 3]))
    run(f, t(), iter([4]))
    it = iter([1, 2, 3, 4])
    next(it)
    run(f, t(), it)
    run.see(list(it))


@split
def list_iterator_partly_advanced(run):
    def f(x, it):
        return x + next(it)

    it = iter([1, 2, 3])
    run(f, t(), it)
    run(f, t(), it)
    run.see(list(it))


@split
def list_iterator_with_list(run):
    def f(x, a, it):
        a.append(x)
        return [v for v in it], x + len(a)

    a = [1, 2]
    run(f, t(), a, iter(a))
    run(f, t(), [1], iter([5]))


@split
def range_and_dict_iterators_passed_in(run):
    def f(x, r, d, e):
        return x + next(r), list(d), next(e), list(e)

    run(f, t(), iter(range(3)), iter({"a": 1}), enumerate([5, 6]))
    run(f, t(), iter(range(2, 5)), iter({"a": 1, "b": 2}), enumerate("ab", 3))


@split
def generator_passed_in(run):
    def gen(n):
        for i in range(n):
            yield i

    def f(x, g):
        first = next(g)
        return x + first, list(g)

    run(f, t(), gen(3))
    run(f, t(), gen(2))
    g = gen(5)
    next(g)
    run(f, t(), g)
    run.see(list(g))


@split
def generator_passed_in_partly_used(run):
    def gen(log):
        try:
            for i in range(4):
                log.append(i)
                yield torch.ones(3) * i
        finally:
            log.append("closed")

    def f(x, g):
        for v in g:
            x = x + v
            if float(v[0]) >= 1:
                break
        return x * 2

    log = []
    g = gen(log)
    run(f, t(), g)
    run.see(log)
    run(f, t(), g)
    run.see(log)
    g.close()
    run.see(log)


@split
def map_and_zip_passed_in(run):
    def f(x, m, z):
        total = x
        for v in m:
            total = total + v
        return total, list(z)

    run(f, t(), map(lambda v: v * 2, [1, 2]), zip([1, 2], "ab"))
    run(f, t(), map(lambda v: v * 3, [1]), zip([1], "a"))


@split
def itertools_objects_passed_in(run):
    def f(x, c, i):
        return x + next(c), next(c), list(i)

    c = itertools.count(5)
    run(f, t(), c, itertools.chain([1], [2]))
    run(f, t(), c, itertools.chain("ab"))
    run.see(next(c))


@whole
def generator_returned_unstarted(run):
    def f(x, n):
        def gen():
            for i in range(n):
                yield x * i

        return gen(), x + 1

    def use(n):
        g, _ = run.compiled(f)(t(), n)
        run.see([v for v in g])

    use(2)
    use(3)


@split
def generator_returned_started(run):
    def f(x):
        def gen():
            a = yield x
            b = yield x + a
            return b

        g = gen()
        first = next(g)
        return g, first * 2

    def use():
        g, first = run.compiled(f)(t())
        run.see(first, g.send(10))
        try:
            g.send(3)
        except StopIteration as e:
            run.see(e.value)

    use()
    use()


@whole
def generator_expression_returned(run):
    def f(x, items):
        return (v * x for v in items), x + 1

    def use(items):
        g, y = run.compiled(f)(t(), items)
        run.see(y, list(g))

    use([1, 2])
    use([3])


@split
def generator_stored_in_object(run):
    class H:
        pass

    def gen(x):
        while True:
            x = x + 1
            yield x

    def f(x, h):
        h.g = gen(x)
        return next(h.g) + next(h.g)

    h = H()
    run(f, t(), h)
    run.see(next(h.g))
    run(f, t(), h)
    run.see(next(h.g))


@whole
def send_and_throw(run):
    def gen(log):
        v = 0
        while True:
            try:
                v = yield v
            except ValueError as e:
                log.append(str(e))
                v = -1
            else:
                log.append(v)

    def f(x):
        log = []
        g = gen(log)
        out = [next(g), g.send(3), g.throw(ValueError("a")), g.send(x), g.throw(ValueError)]
        g.close()
        try:
            next(g)
        except StopIteration:
            out.append("over")
        return out, log, x + 1

    run(f, t())
    run(f, t())


@whole
def throw_through_delegation(run):
    def inner(log):
        try:
            while True:
                got = yield "in"
                log.append(got)
        except KeyError as e:
            log.append(("inner", e.args))
            yield "handled"
        finally:
            log.append("cleanup")
        return "result"

    def outer(log):
        r = yield from inner(log)
        log.append(r)
        yield "after"

    def f(x):
        log = []
        g = outer(log)
        out = [next(g), g.send(1), g.throw(KeyError("k")), next(g)]
        g.close()
        return out, log, x + 1

    run(f, t())
    run(f, t())


@whole
def throw_uncaught_through_delegation(run):
    def inner(log):
        try:
            yield 1
        finally:
            log.append("inner")

    def outer(log):
        try:
            yield from inner(log)
        except ValueError as e:
            log.append(e.args)
            yield "caught outside"

    def f(x):
        log = []
        g = outer(log)
        next(g)
        out = g.throw(ValueError("v"))
        return out, log, x + 1

    run(f, t())
    run(f, t())


@whole
def close_through_delegation(run):
    def inner(log):
        try:
            yield 1
        except GeneratorExit:
            log.append("exit inner")
            raise
        finally:
            log.append("finally inner")

    def outer(log):
        try:
            yield from inner(log)
        finally:
            log.append("finally outer")

    def f(x):
        log = []
        g = outer(log)
        next(g)
        g.close()
        return log, x + 1

    run(f, t())
    run(f, t())


@whole
def delegate_to_iterators(run):
    class It:
        def __init__(self):
            self.n = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.n += 1
            if self.n > 2:
                raise StopIteration("value")
            return self.n

    def gen():
        r = yield from It()
        yield r
        yield from "ab"
        yield from (i for i in [7])
        s = yield from []
        yield s

    def f(x):
        return list(gen()), x + 1

    run(f, t())
    run(f, t())


@whole
def generator_with_try_finally_abandoned(run):
    log = []

    def gen():
        try:
            yield 1
            yield 2
        finally:
            log.append("cleanup")

    def f(x):
        for v in gen():
            x = x + v
            break
        log.append("after loop")
        return x

    run(f, t())
    run.see(log)
    run(f, t())
    run.see(log)


@whole
def generator_raises(run):
    def gen():
        yield 1
        raise ValueError("inside")

    def f(x):
        g = gen()
        out = []
        try:
            for v in g:
                out.append(v)
        except ValueError as e:
            out.append(str(e))
        out.append(next(g, "finished"))
        return out, x + 1

    run(f, t())
    run(f, t())


@whole
def stop_iteration_inside_generator(run):
    def gen():
        yield 1
        next(iter([]))

    def f(x):
        try:
            return list(gen())
        except RuntimeError as e:
            return x + 1, str(e), type(e.__cause__)

    run(f, t())
    run(f, t())


@split
def generator_protocol_errors(run):
    def gen():
        yield 1

    def selfish():
        yield next(holder[0])

    holder = []

    def f(x, which):
        g = gen()
        try:
            if which == 0:
                g.send(5)
            elif which == 1:
                list(g)
                next(g)
            elif which == 2:
                next(g)
                g.throw(KeyError("k"))
            elif which == 3:
                g.throw(KeyError("early"))
            elif which == 4:
                g.throw(5)
            elif which == 5:
                next(5)
            elif which == 6:
                iter(5)
            else:
                s = selfish()
                holder[:] = [s]
                next(s)
        except Exception as e:
            return x + 1, type(e), e.args
        return x

    for which in range(8):
        run(f, t(), which)


@whole
def generator_that_ignores_exit(run):
    def gen():
        try:
            yield 1
        except GeneratorExit:
            yield 2

    def f(x):
        g = gen()
        next(g)
        try:
            g.close()
        except RuntimeError as e:
            return x + 1, str(e)

    run(f, t())
    run(f, t())


@whole
def coroutine_like_pipeline(run):
    def averager():
        total, n = 0.0, 0
        avg = None
        while True:
            v = yield avg
            if v is None:
                return avg
            total = total + v
            n += 1
            avg = total / n

    def grouper(results, key):
        while True:
            results[key] = yield from averager()

    def f(x):
        results = {}
        g = grouper(results, "a")
        next(g)
        g.send(x)
        g.send(x * 3)
        try:
            g.send(None)
        except StopIteration:
            pass
        return results

    run(f, t())
    run(f, t(5))


@whole
def closures_over_generator_state(run):
    def f(x):
        def counter():
            n = 0

            def gen():
                nonlocal n
                while n < 3:
                    n += 1
                    yield n

            return gen(), lambda: n

        g, peek = counter()
        a = next(g)
        b = peek()
        rest = list(g)
        return a, b, rest, peek(), x + n_of(rest)

    def n_of(v):
        return len(v)

    run(f, t())
    run(f, t())


@whole
def generator_in_argument_of_builtins(run):
    def f(x):
        return (
            sum(v * v for v in range(4)),
            max((v for v in [3, 1, 2]), key=lambda v: -v),
            sorted((v % 3, v) for v in range(5)),
            dict((k, len(k)) for k in ("a", "bb")),
            set(v // 2 for v in range(4)),
            "".join(c.upper() for c in "ab"),
            any(v > 2 for v in [1, 3, 1 / 1]),
            tuple(x + v for v in range(2)),
            list(zip(*((v, v + 1) for v in range(2)))),
        )

    run(f, t())
    run(f, t())


@whole
def nested_and_conditional_comprehensions(run):
    def f(x, n):
        m = [[i * j for j in range(n)] for i in range(n) if i != 1]
        flat = [v for row in m for v in row if v]
        d = {k: {v for v in range(k)} for k in range(n)}
        z = [y for i in range(n) if (y := i * 2) > 1]
        return (
            m,
            flat,
            d,
            z,
            y,
            x + len(flat),
            [lambda i=i: i for i in range(2)][1](),
            [(lambda: i)() for i in range(2)],
        )

    run(f, t(), 3)
    run(f, t(), 4)


@whole
def lazy_iterators_interleave(run):
    def f(x):
        log = []

        def note(v):
            log.append(v)
            return v * 2

        m = map(note, [1, 2, 3])
        fl = filter(lambda v: v > 2, m)
        first = next(fl)
        log.append("between")
        rest = list(fl)
        z = zip([1, 2, 3], iter([4]))
        return first, rest, log, list(z), x + first

    run(f, t())
    run(f, t())


@whole
def zip_and_enumerate_details(run):
    def f(x):
        it = iter([1, 2, 3, 4, 5])
        pairs = list(zip(it, it))
        left = list(it)
        try:
            list(zip([1], [1, 2], strict=True))
        except ValueError as e:
            why = str(e)
        try:
            list(zip([1, 2], [1], strict=True))
        except ValueError as e:
            why2 = str(e)
        return pairs, left, why, why2, list(enumerate("ab", start=2)), list(zip()), list(zip("a")), x + 1

    run(f, t())
    run(f, t())


@whole
def iter_with_sentinel(run):
    def f(x):
        items = [1, 2, 0, 3]
        got = list(iter(lambda: items.pop(0), 0))
        return got, items, x + len(got)

    run(f, t())
    run(f, t())


@whole
def reversed_things(run):
    def f(x, d):
        r = reversed([1, 2, 3])
        first = next(r)
        return (
            first,
            list(r),
            list(reversed(d)),
            list(reversed(d.items())),
            list(reversed(range(3))),
            "".join(reversed("ab")),
            list(reversed((1, x)))[0] + 1,
        )

    run(f, t(), {"a": 1, "b": 2})
    run(f, t(), {"a": 1})


@whole
def reversed_lists(run):
    def f(x, items):
        back = reversed(items)
        first = next(back)
        items[0] = x + 1
        ended = reversed([1])
        list(ended)
        forth = iter([1])
        list(forth)
        ended_tuple = reversed((1,))
        list(ended_tuple)
        shrunk, short = [1, 2, 3], []
        for item in reversed(shrunk):
            short.append(item)
            del shrunk[:2]
        return back, first, ended, forth, ended_tuple, reversed((1, x)), reversed("ab"), reversed([]), short, items

    def see(result):
        for part in result:
            run.see(type(part), list(part) if hasattr(part, "__next__") else part)

    def g(x, items):
        back = reversed(items)
        items.append(4)
        return x + 1, list(back), type(back).__name__

    for items in ([1, 2, 3], [t(), 5]):
        try:
            see(run.compiled(f)(t(), items))
        except Exception as error:
            run.see(error)
        run(g, t(), items)

    def later(x, items):
        back = reversed(items)
        next(back)
        return x + 1, back

    items = [1, 2, 3]
    _, back = run.compiled(later)(t(), items)
    items[0] = 7
    run.see(list(back))


@whole
def itertools_basics(run):
    def f(x):
        return (
            list(itertools.chain("ab", [1], ())),
            list(itertools.chain.from_iterable([[1], [2, 3]])),
            list(itertools.islice(itertools.count(10, 5), 3)),
            list(itertools.islice("abcdef", 1, 5, 2)),
            list(itertools.repeat(7, 2)),
            list(itertools.islice(itertools.cycle("ab"), 5)),
            list(itertools.accumulate([1, 2, 3])),
            list(itertools.accumulate([1, 2, 3], operator.mul, initial=10)),
            list(itertools.accumulate([x, x, x]))[-1],
            list(itertools.takewhile(lambda v: v < 3, [1, 2, 3, 1])),
            list(itertools.dropwhile(lambda v: v < 3, [1, 2, 3, 1])),
            list(itertools.filterfalse(lambda v: v % 2, range(5))),
            list(itertools.compress("abcd", [1, 0, 1, 0])),
            list(itertools.starmap(pow, [(2, 3), (3, 2)])),
            list(itertools.zip_longest("ab", [1], fillvalue=0)),
            list(itertools.pairwise([1, 2, 3])),
            list(itertools.product("ab", range(2), repeat=1)),
            list(itertools.permutations([1, 2, 3], 2)),
            list(itertools.combinations("abc", 2)),
            list(itertools.combinations_with_replacement("ab", 2)),
        )

    run(f, t())
    run(f, t(2))


@whole
def itertools_groupby(run):
    def f(x):
        groups = [(k, list(g)) for k, g in itertools.groupby("aabbba")]
        by = {k: [v for v in g] for k, g in itertools.groupby([1, 3, 2, 4], key=lambda v: v % 2)}
        it = itertools.groupby([1, 1, 2])
        k1, g1 = next(it)
        k2, g2 = next(it)
        return groups, by, k1, list(g1), k2, list(g2), x + len(groups)

    run(f, t())
    run(f, t())


@whole
def itertools_tee(run):
    def f(x):
        a, b = itertools.tee(iter([1, 2, 3]))
        first = next(a)
        c = list(b)
        d, e, g = itertools.tee([5], 3)
        return first, c, list(a), list(d), next(e), list(g), x + first

    run(f, t())
    run(f, t())


@whole
def itertools_lazy_and_shared(run):
    def f(x):
        src = iter(range(10))
        a = list(itertools.islice(src, 2))
        b = next(src)
        c = list(itertools.takewhile(lambda v: v < 5, src))
        d = next(src)
        z = itertools.zip_longest(iter([1, 2]), src)
        e = next(z)
        ch = itertools.chain([next(src)], src)
        return a, b, c, d, e, next(ch), list(ch), x + d

    run(f, t())
    run(f, t())


@whole
def itertools_with_tensors(run):
    def f(x, y):
        pairs = [a @ b for a, b in itertools.product([x, y], repeat=2)]
        acc = list(itertools.accumulate([x, y, x], lambda a, b: a * b))
        out = x
        for i, v in zip(itertools.count(), itertools.cycle([x, y])):
            if i == 3:
                break
            out = out + v * i
        return pairs, acc, out

    run(f, t(), t(4, 5, 6))
    run(f, t(1), t(2))


@whole
def itertools_errors(run):
    def f(x, which):
        try:
            if which == 0:
                itertools.islice([1], -1)
            elif which == 1:
                list(itertools.chain(5))
            elif which == 2:
                list(itertools.starmap(pow, [5]))
            elif which == 3:
                list(itertools.accumulate([1, "a"]))
            elif which == 4:
                itertools.permutations(5)
            elif which == 5:
                next(itertools.chain())
        except Exception as e:
            return x + 1, type(e), e.args
        return x

    for which in range(6):
        run(f, t(), which)


@whole
def itertools_escape(run):
    def f(x):
        c = itertools.count(3)
        next(c)
        cy = itertools.cycle([1, 2])
        next(cy)
        s = itertools.islice(range(10), 2, 6)
        next(s)
        ch = itertools.chain([1, 2], [3])
        next(ch)
        ac = itertools.accumulate([1, 2, 3])
        next(ac)
        return x + 1, c, cy, s, ch, ac, itertools.repeat(4, 2), zip([1], [x]), map(len, ["ab"]), enumerate([5], 2)

    def use():
        y, *its = run.compiled(f)(t())
        run.see(y, [type(i).__name__ for i in its], [list(itertools.islice(i, 3)) for i in its])

    use()
    use()


@whole
def user_iterator_advanced_inside(run):
    class It:
        def __init__(self):
            self.i = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.i += 1
            if self.i > 3:
                raise StopIteration
            return self.i

    def f(x, it):
        a = next(it)
        for v in it:
            x = x + v
            if v == 2:
                break
        return x, a, next(it, None), next(it, "end")

    it = It()
    run(f, t(), it)
    run.see(it)
    run(f, t(), it)


@whole
def generator_methods_of_objects(run):
    class Tree:
        def __init__(self, v, *kids):
            self.v = v
            self.kids = kids

        def __iter__(self):
            yield self.v
            for kid in self.kids:
                yield from kid

        @property
        def leaves(self):
            if not self.kids:
                yield self.v
            for kid in self.kids:
                yield from kid.leaves

    def f(x, tree):
        return sum(tree), list(tree.leaves), x + max(tree)

    run(f, t(), Tree(1, Tree(2), Tree(3, Tree(4))))
    run(f, t(), Tree(1))


@whole
def recursion_with_generators(run):
    def perms(items):
        if not items:
            yield []
        for i, v in enumerate(items):
            for rest in perms(items[:i] + items[i + 1 :]):
                yield [v, *rest]

    def f(x):
        return list(perms([1, 2, 3])), x + 1

    run(f, t())
    run(f, t())


@whole
def generator_with_return_in_finally(run):
    def gen():
        try:
            yield 1
            raise ValueError
        finally:
            return 5

    def outer():
        r = yield from gen()
        yield ("got", r)

    def f(x):
        return list(outer()), x + 1

    run(f, t())
    run(f, t())


@whole
def generator_sees_mutation_of_list(run):
    def f(x):
        a = [1, 2]
        g = (v for v in a)
        first = next(g)
        a.append(3)
        return first, list(g), x + 1

    run(f, t())
    run(f, t())


@whole
def generator_attributes(run):
    def gen():
        yield 1

    def f(x):
        g = gen()
        a = g.gi_running, g.__name__, iter(g) is g, type(g).__name__
        return a, x + 1

    run(f, t())
    run(f, t())


@split
def async_functions(run):
    async def co(x):
        return x + 1

    def f(x):
        c = co(x)
        try:
            c.send(None)
        except StopIteration as e:
            return e.value * 2

    run(f, t())
    run(f, t())


@pytest.mark.parametrize("scenario,is_whole", S.found, ids=lambda p: getattr(p, "__name__", ""))
def test_generators(scenario, is_whole):
    check_scenario(scenario, is_whole)
