"""Exceptions: raised, caught, chained, cleaned up after, half way through a mutation, and seen by the caller.

PYTEST_DONT_REWRITE: `assert` statements are programs here.
"""

# ruff: noqa
from __future__ import annotations

import contextlib
import sys

import pytest
import torch
from scenarios import Scenarios, check_scenario

S = Scenarios()
whole, split = S.whole, S.split


def t(*values):
    return torch.tensor([float(v) for v in values] or [1.0, 2.0, 3.0])


@split
def what_the_interpreter_fills_in(run):
    class A:
        pass

    def f(x, a):
        y = x + 1
        try:
            return a.nope
        except AttributeError as error:
            return error.name, error.obj is a, y

    run(f, t(), A())


@whole
def uncaught_to_the_caller(run):
    def inner(x, k):
        if k:
            raise ValueError("bad", k)
        return x + 1

    def f(x, k):
        y = x * 2
        return inner(y, k)

    run(f, t(), 0)
    run(f, t(), 1)
    run(f, t(), 0)


@whole
def uncaught_after_mutation(run):
    def f(x, log, k):
        log.append("start")
        y = x + 1
        log.append(y)
        if k:
            raise KeyError("k")
        log.append("end")
        return y

    run(f, t(), [], False)
    run(f, t(), [], True)
    log = []
    run(f, t(), log, True)
    run(f, t(), log, False)


@whole
def uncaught_builtin_errors(run):
    def f(x, which):
        y = x + 1
        if which == 0:
            return y[5]
        if which == 1:
            return {}["a"]
        if which == 2:
            return [][0]
        if which == 3:
            return 1 / 0
        if which == 4:
            return None.foo
        if which == 5:
            return undefined_name
        if which == 6:
            return int("q")
        if which == 7:
            return y + "a"
        if which == 8:
            return len(5)
        if which == 9:
            return (lambda a: a)()
        if which == 10:
            return y.nope
        if which == 11:
            a, b = [1]
            return a
        if which == 12:
            assert y is None, "message"
        if which == 13:
            raise NotImplementedError
        if which == 14:
            return next(iter([]))
        return y

    for which in range(15):
        run(f, t(), which)


@whole
def uncaught_with_chain(run):
    def f(x, which):
        try:
            {}["k"]
        except KeyError as e:
            if which == 0:
                raise ValueError("v")
            if which == 1:
                raise ValueError("v") from e
            if which == 2:
                raise ValueError("v") from None
            raise
        return x + 1

    for which in range(4):
        run(f, t(), which)


@whole
def unbound_locals(run):
    def f(x, k):
        if k:
            y = x + 1
        try:
            return y
        except UnboundLocalError as e:
            return x, str(e)

    run(f, t(), True)
    run(f, t(), False)


@whole
def deleted_names(run):
    def f(x):
        y = x + 1
        del y
        try:
            y
        except UnboundLocalError as e:
            a = type(e).__name__

        def g():
            return z

        try:
            g()
        except NameError as e:
            b = str(e)
        z = 1
        try:
            raise ValueError
        except ValueError as err:
            pass
        try:
            err
        except NameError as e:
            c = type(e).__name__
        return a, b, c, x + g()

    run(f, t())
    run(f, t())


@whole
def finally_with_return_break_continue(run):
    def a():
        try:
            return 1
        finally:
            return 2

    def b():
        for i in range(3):
            try:
                continue
            finally:
                if i == 1:
                    break
        return i

    def c():
        try:
            raise ValueError
        finally:
            return "swallowed"

    def d(log):
        while True:
            try:
                try:
                    return log
                finally:
                    log.append(1)
            finally:
                log.append(2)

    def e():
        for i in range(2):
            try:
                1 / 0
            except ZeroDivisionError:
                continue
            finally:
                if i:
                    return ("i", i)

    def f(x):
        return a(), b(), c(), d([]), e(), x + 1

    run(f, t())
    run(f, t())


@whole
def try_else_finally_order(run):
    def f(x, k):
        log = []
        try:
            log.append("try")
            if k == 1:
                raise ValueError
            if k == 2:
                raise KeyError
        except ValueError:
            log.append("except")
        else:
            log.append("else")
        finally:
            log.append("finally")
            x = x + 1
        return log, x

    run(f, t(), 0)
    run(f, t(), 1)
    run(f, t(), 2)


@whole
def context_and_cause(run):
    def f(x):
        out = []
        try:
            try:
                try:
                    raise ValueError("first")
                except ValueError:
                    raise KeyError("second")
            except KeyError as e:
                raise TypeError("third") from e
        except TypeError as e:
            while e is not None:
                out.append((type(e).__name__, e.args, e.__suppress_context__, e.__cause__ is e.__context__))
                e = e.__context__
        return out, x + 1

    run(f, t())
    run(f, t())


@whole
def exception_with_state(run):
    class Err(Exception):
        code = 5

        def __init__(self, msg, value):
            super().__init__(msg)
            self.value = value
            self.extra = []

        def __str__(self):
            return f"<{self.args[0]} {self.code}>"

        @property
        def doubled(self):
            return self.value * 2

    class Sub(Err):
        code = 6

        def __init__(self, value):
            super().__init__("sub", value)

    def f(x):
        try:
            raise Sub(x + 1)
        except Err as e:
            e.extra.append(1)
            e.code += 1
            return e.value, str(e), e.code, e.doubled, e.extra, e.args, isinstance(e, Err), Err.code

    run(f, t())
    Err.code = 50
    run(f, t())


@split
def exception_stored_and_returned(run):
    def f(x, log):
        try:
            raise ValueError("kept", 3)
        except ValueError as e:
            log.append(e)
            e.note = x
            return x + 1, e

    log = []
    run(f, t(), log)
    run(f, t(), log)


@whole
def exception_raised_later(run):
    def f(x, errors):
        saved = None
        try:
            int("a")
        except ValueError as e:
            saved = e
        try:
            raise saved
        except ValueError as e:
            return e is saved, str(e), x + 1

    run(f, t(), [])
    run(f, t(), [])


@split
def exception_argument_raised(run):
    def f(x, e):
        try:
            raise e
        except ValueError as err:
            return err is e, err.args, x + 1
        except KeyError:
            return "key", x

    run(f, t(), ValueError("a"))
    run(f, t(), KeyError)
    run(f, t(), KeyError("b"))


@split
def except_with_tuples_and_dynamic_classes(run):
    def f(x, kinds, e):
        try:
            raise e
        except kinds as err:
            return type(err).__name__, x + 1
        except (ArithmeticError, (LookupError, TypeError)) as err:
            return "other", type(err).__name__, x

    run(f, t(), (ValueError, KeyError), KeyError("k"))
    run(f, t(), ValueError, IndexError("k"))
    run(f, t(), (), ZeroDivisionError("k"))
    run(f, t(), OSError, OSError("k"))


@whole
def reraise_forms(run):
    def f(x):
        out = []
        try:
            try:
                raise ValueError("a")
            except ValueError:
                raise
        except ValueError as e:
            out.append(e.args)
        try:
            try:
                raise KeyError("b")
            except KeyError as e:
                raise e
        except KeyError as e:
            out.append(e.args)
        try:
            raise
        except RuntimeError as e:
            out.append(str(e))

        def helper():
            raise

        try:
            try:
                raise IndexError("c")
            except IndexError:
                helper()
        except IndexError as e:
            out.append(e.args)
        return out, x + 1

    run(f, t())
    run(f, t())


@whole
def raise_wrong_things(run):
    def f(x, which):
        try:
            if which == 0:
                raise 5
            if which == 1:
                raise int
            if which == 2:
                raise ValueError from 3
            if which == 3:
                try:
                    raise KeyError
                except "no":
                    pass
        except TypeError as e:
            return x + 1, str(e)

    for which in range(4):
        run(f, t(), which)


@whole
def exception_half_way_through_mutation(run):
    class Bad:
        def __eq__(self, other):
            raise ValueError("eq")

        __hash__ = object.__hash__

    def f(x, d, a):
        try:
            for i, v in enumerate([1, 2, None, 4]):
                a.append(v + 1)
                d[v] = i
                x = x + v
        except TypeError as e:
            d["error"] = type(e).__name__
        try:
            a.remove(Bad())
        except ValueError as e:
            d["remove"] = str(e)
        return x, d, a

    run(f, t(), {}, [])
    run(f, t(), {1: 5}, [7])


@whole
def exception_in_property_and_getattr(run):
    class A:
        @property
        def p(self):
            raise AttributeError("from property")

        @property
        def q(self):
            raise ValueError("q")

        def __getattr__(self, name):
            return f"fallback {name}"

    def f(x, a):
        out = [a.p, hasattr(a, "p"), getattr(a, "p", 1)]
        try:
            getattr(a, "q", 2)
        except ValueError as e:
            out.append(str(e))
        try:
            hasattr(a, "q")
        except ValueError as e:
            out.append(str(e))
        return out, x + 1

    run(f, t(), A())
    run(f, t(), A())


@whole
def managers_that_swallow(run):
    class M:
        def __init__(self, swallow):
            self.swallow = swallow
            self.log = []

        def __enter__(self):
            self.log.append("in")
            return self.log

        def __exit__(self, kind, error, tb):
            self.log.append((kind, None if error is None else error.args, tb is not None))
            return self.swallow

    def f(x, m, k):
        with m as log:
            log.append("body")
            if k:
                raise ValueError("inside")
            x = x + 1
        return x, m.log

    run(f, t(), M(True), True)
    run(f, t(), M(True), False)
    run(f, t(), M(False), True)
    run(f, t(), M(0), False)


@whole
def managers_nested_and_failing(run):
    class M:
        def __init__(self, log, name, fail=""):
            self.log, self.name, self.fail = log, name, fail

        def __enter__(self):
            self.log.append("enter " + self.name)
            if self.fail == "enter":
                raise KeyError(self.name)
            return self

        def __exit__(self, kind, error, tb):
            self.log.append("exit " + self.name + (kind.__name__ if kind else ""))
            if self.fail == "exit":
                raise TypeError(self.name)

    def f(x, fail_a, fail_b, body):
        log = []
        try:
            with M(log, "a", fail_a), M(log, "b", fail_b) as b:
                log.append(b.name)
                if body:
                    raise ValueError("body")
        except Exception as e:
            log.append((type(e).__name__, e.args, type(e.__context__).__name__))
        return log, x + len(log)

    run(f, t(), "", "", False)
    run(f, t(), "", "", True)
    run(f, t(), "enter", "", False)
    run(f, t(), "", "enter", False)
    run(f, t(), "exit", "exit", True)
    run(f, t(), "", "exit", False)


@whole
def with_return_and_break(run):
    class M:
        def __init__(self, log):
            self.log = log

        def __enter__(self):
            return self

        def __exit__(self, *a):
            self.log.append(len(a))

    def f(x, log):
        for i in range(3):
            with M(log):
                if i == 1:
                    break
                if i == 0:
                    continue
        with M(log):
            return x + i

    run(f, t(), [])
    run(f, t(), [])


@whole
def contextmanager_functions(run):
    @contextlib.contextmanager
    def scope(log, name, swallow=False):
        log.append("+" + name)
        try:
            yield name.upper()
        except ValueError as e:
            log.append(("saw", e.args))
            if not swallow:
                raise
        finally:
            log.append("-" + name)

    def f(x, swallow):
        log = []
        try:
            with scope(log, "a") as A, scope(log, "b", swallow) as B:
                log.append(A + B)
                raise ValueError("v")
        except ValueError:
            log.append("outside")
        return log, x + 1

    run(f, t(), True)
    run(f, t(), False)


@whole
def contextmanager_as_decorator(run):
    log = []

    @contextlib.contextmanager
    def scope(name):
        log.append(name)
        yield
        log.append("/" + name)

    @scope("deco")
    def g(x):
        log.append("body")
        return x * 2

    class C(contextlib.ContextDecorator):
        def __enter__(self):
            log.append("C")
            return self

        def __exit__(self, *a):
            log.append("/C")

    @C()
    def h(x):
        return x + 1

    def f(x):
        return g(x) + h(x)

    run(f, t())
    run(f, t())
    run.see(log)


@whole
def exit_stacks(run):
    def f(x, k):
        log = []
        with contextlib.ExitStack() as stack:
            stack.callback(log.append, "cb1")
            stack.enter_context(contextlib.suppress(KeyError))
            stack.callback(lambda **kw: log.append(kw), a=1)
            stack.push(lambda *exc: log.append(exc[0]) or False)
            if k:
                raise KeyError("x")
            x = x + 1
        return log, x

    run(f, t(), False)
    run(f, t(), True)


@whole
def exit_stack_pop_all(run):
    def f(x):
        log = []
        with contextlib.ExitStack() as stack:
            stack.callback(log.append, 1)
            kept = stack.pop_all()
        log.append("after")
        kept.close()
        return log, x + 1

    run(f, t())
    run(f, t())


@whole
def contextlib_pieces(run):
    class Res:
        closed = False

        def close(self):
            self.closed = True

    def f(x):
        r = Res()
        with contextlib.closing(r) as c:
            same = c is r
        with contextlib.nullcontext(5) as five:
            pass
        with contextlib.suppress(ZeroDivisionError, KeyError):
            1 / 0
        with contextlib.suppress():
            pass
        return r.closed, same, five, x + five

    run(f, t())
    run(f, t())


@split
def redirected_output(run):
    import io

    def f(x):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            print("hello", x.shape)
        return x + 1, out.getvalue()

    run(f, t())
    run(f, t())


@whole
def exception_groups(run):
    def f(x):
        g = ExceptionGroup("m", [ValueError(1), ExceptionGroup("n", [KeyError(2), ValueError(3)])])
        match, rest = g.split(ValueError)
        sub = g.subgroup(KeyError)
        return (
            g.message,
            len(g.exceptions),
            len(match.exceptions),
            rest.exceptions[0].message,
            len(sub.exceptions),
            x + 1,
        )

    run(f, t())
    run(f, t())


@whole
def notes_and_tracebacks(run):
    def f(x):
        try:
            raise ValueError("a")
        except ValueError as e:
            e.add_note("note")
            n = e.__notes__
            e2 = e.with_traceback(None)
            return n, e2 is e, e.__traceback__ is None, x + 1

    run(f, t())
    run(f, t())


@split
def handled_by_a_caller(run):
    def seen():
        return sys.exc_info()[1]

    def f(x, what):
        if what == "seen":
            return x + 1, sys.exc_info()[1], seen()
        if what == "current" and hasattr(sys, "exception"):
            return x + 1, sys.exception()
        if what == "context":
            try:
                raise KeyError(3)
            except KeyError as error:
                return x + 1, error.__context__
        if what == "again":
            y = x + 1
            raise
        try:
            {}[what]
        except KeyError:
            return x * 2, sys.exc_info()[0], seen()

    def in_handler(f, *args):
        try:
            raise ValueError("outer")
        except ValueError:
            return f(*args)

    for what in ("seen", "current", "context", "again", "own"):
        for _ in range(2):
            run(f, t(), what)
            run(lambda *args: in_handler(f, *args), t(), what)  # the caller is captured too
            compiled = run.compiled(f)
            try:
                run.see(in_handler(compiled, t(), what))
            except (ValueError, RuntimeError) as error:
                run.see(error)


@whole
def sys_exc_info(run):
    def f(x):
        try:
            raise ValueError("a")
        except ValueError:
            kind, value, tb = sys.exc_info()
            current = sys.exception() if hasattr(sys, "exception") else value
        return kind.__name__, value.args, sys.exc_info()[0], current is value, x + 1

    run(f, t())
    run(f, t())


@whole
def oserror_and_friends(run):
    def f(x):
        out = []
        for make in (
            lambda: OSError(2, "no file"),
            lambda: FileNotFoundError(2, "gone", "name"),
            lambda: UnicodeDecodeError("utf8", b"a", 0, 1, "why"),
            lambda: ImportError("m", name="n"),
            lambda: StopIteration(4),
            lambda: SystemExit(3),
            lambda: KeyError("a"),
            lambda: SyntaxError("s"),
            lambda: AttributeError("x", name="nm", obj=3),
        ):
            e = make()
            out.append((type(e).__name__, str(e), e.args))
        e = OSError(2, "no file")
        return out, e.errno, e.strerror, StopIteration(4).value, SystemExit(3).code, x + 1

    run(f, t())
    run(f, t())


@whole
def error_text_and_repr(run):
    class E(Exception):
        pass

    def f(x):
        return (
            str(ValueError()),
            str(ValueError("a")),
            str(ValueError("a", 1)),
            repr(ValueError("a")),
            repr(E(1, [2])),
            f"{E('q')}",
            f"{KeyError('k')!r:>14}",
            "%s" % KeyError("k"),
            x + 1,
        )

    run(f, t())
    run(f, t())


@whole
def exceptions_compared_and_in_containers(run):
    def f(x):
        a, b = ValueError(1), ValueError(1)
        d = {a: 1, b: 2}
        return a == b, a == a, len(d), a in [b], [a].index(a), d[b], bool(a), x + 1

    run(f, t())
    run(f, t())


@whole
def error_in_nested_inlined_calls(run):
    def level(n, log):
        try:
            if n == 0:
                raise ValueError("deep")
            level(n - 1, log)
        except ValueError as e:
            log.append(n)
            if n == 2:
                return
            raise
        finally:
            log.append(-n)

    def f(x):
        log = []
        level(4, log)
        return log, x + 1

    run(f, t())
    run(f, t())


@whole
def retry_loop(run):
    class Flaky:
        def __init__(self, fails):
            self.fails = fails

        def go(self, x):
            if self.fails > 0:
                self.fails -= 1
                raise RuntimeError(f"left {self.fails}")
            return x * 2

    def f(x, flaky):
        errors = []
        for attempt in range(5):
            try:
                y = flaky.go(x)
            except RuntimeError as e:
                errors.append(str(e))
            else:
                break
        else:
            y = None
        return y, errors, attempt

    run(f, t(), Flaky(2))
    run(f, t(), Flaky(0))
    run(f, t(), Flaky(9))


@whole
def assertion_forms(run):
    def f(x, k):
        try:
            assert k, ("message", k)
            assert x.shape[0] == 3
        except AssertionError as e:
            return e.args, x
        return x + 1

    run(f, t(), 1)
    run(f, t(), 0)
    run(f, t(1), 1)


@whole
def keyboard_and_base_exceptions(run):
    def f(x):
        out = []
        try:
            try:
                raise KeyboardInterrupt("stop")
            except Exception:
                out.append("no")
        except BaseException as e:
            out.append((type(e).__name__, e.args))
        try:
            raise GeneratorExit
        except GeneratorExit as e:
            out.append(e.args)
        return out, x + 1

    run(f, t())
    run(f, t())


@split
def warning_filters(run):
    import warnings

    def f(x):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = x + 1
        return y

    run(f, t())
    run(f, t())


@whole
def lookup_errors_as_control_flow(run):
    def f(x, d, path):
        try:
            for key in path:
                d = d[key]
        except (KeyError, IndexError, TypeError) as e:
            return x, type(e).__name__, e.args
        return x * d

    run(f, t(), {"a": [1, {"b": 3}]}, ("a", 1, "b"))
    run(f, t(), {"a": [1]}, ("a", 1, "b"))
    run(f, t(), {}, ("a",))
    run(f, t(), {"a": 1}, ("a", 1))


@split
def a_traceback_of_an_exception_from_before(run):
    def f(x, error):
        return x + 1, error.__traceback__ is None, error.__traceback__

    try:
        raise ValueError("early")
    except ValueError as error:
        run.see(f(t(), error)[1])
        run(f, t(), error)


@split
def the_lines_of_a_caught_exception(run):
    import traceback

    def inner(k):
        return 1 / k

    def f(x, k):
        y = x + 1
        try:
            y = y + inner(k)
        except ZeroDivisionError as e:
            error = e
        lines = [(entry.name, entry.lineno) for entry in traceback.extract_tb(error.__traceback__)]
        return y * 2, lines

    run(f, t(), 0)
    run(f, t(), 0)


@split
def locals_that_a_traceback_shows(run):
    import traceback

    def inner(a, k):
        b = a + 1
        c = [b]
        return 1 / k

    def f(x, k):
        y = x + 1
        unread = "unread"
        try:
            inner(3, k)
        except ZeroDivisionError as e:
            found = traceback.TracebackException.from_exception(e, capture_locals=True)
        return y, found.stack[-1].locals

    run(f, t(), 0)
    run(f, t(), 0)


@split
def a_frame_of_a_traceback(run):
    def f(x):
        y = x + 1
        try:
            1 / 0
        except ZeroDivisionError as e:
            frame = e.__traceback__.tb_frame
        try:
            frame.clear()
        except RuntimeError as error:
            return y, str(error), sorted(frame.f_locals)

    run(f, t())


@split
def what_a_caller_is_handling(run):
    def f(x):
        y = x * 2
        return y, sys.exc_info()[0], sys.exc_info()[1]

    def g(x):
        raise

    def h(x):
        try:
            [][0]
        except IndexError as error:
            return x + 1, error.__context__

    for function in (f, h):
        run(function, t())
        try:
            raise KeyError("outside")
        except KeyError:
            run(function, t())
            run(function, t())
        run(function, t())
    try:
        raise KeyError("outside")
    except KeyError:
        run(g, t())
    run(g, t())


@split
def what_exceptions_refuse(run):
    def attempt(error, name, value):
        try:
            setattr(error, name, value)
        except (AttributeError, TypeError) as refused:
            return type(refused).__name__, str(refused)
        return "taken"

    def remove(error, name):
        try:
            delattr(error, name)
        except (AttributeError, TypeError) as refused:
            return type(refused).__name__, str(refused)
        return "gone"

    def f(x):
        error = ValueError(1)
        found = [attempt(error, name, 1) for name in ("__cause__", "__context__", "__traceback__", "args", "own")]
        found += [attempt(error, "args", [x, 2]), attempt(error, "__cause__", KeyError("k")), error.args[1]]
        return x + 1, found, [remove(error, name) for name in ("__cause__", "__traceback__", "args", "own", "own")]

    run(f, t())
    run(f, t())


@split
def a_circle_of_contexts(run):
    def f(x):
        y = x * 2
        try:
            try:
                raise ValueError(1)
            except ValueError as inner:
                inner.__context__ = inner
                raise TypeError(2)
        except TypeError as outer:
            inner = outer.__context__
            return y, type(inner).__name__, inner.__context__ is inner

    run(f, t())


@split
def groups_made_of_anything(run):
    class Own(ExceptionGroup):
        pass

    def make(cls, *args):
        try:
            return str(cls(*args))
        except (TypeError, ValueError) as error:
            return type(error).__name__, str(error)

    def f(x):
        bad = [(), ("only",), ("m", []), ("m", [1]), (1, [ValueError()]), ("m", [ValueError]), ("m", ValueError())]
        bad += [("m", [ValueError(1), KeyError("k")]), ("m", (ValueError(1),)), ("m", [KeyboardInterrupt()])]
        return x + 1, [make(cls, *args) for cls in (ExceptionGroup, BaseExceptionGroup, Own) for args in bad]

    run(f, t())


@split
def parts_of_a_group_keep_its_notes(run):
    def f(x):
        group = ExceptionGroup("g", [ValueError(1), KeyError(2)])
        group.add_note("noted")
        part, rest = group.split(ValueError)
        part.add_note("more")
        return x + 1, group.__notes__, part.__notes__, rest.__notes__, str(part), repr(rest)

    run(f, t())


FROM_3_11 = (
    exception_groups,
    notes_and_tracebacks,
    groups_made_of_anything,
    parts_of_a_group_keep_its_notes,
)


@pytest.mark.parametrize(
    "scenario,is_whole",
    [(s, w) for s, w in S.found if sys.version_info >= (3, 11) or s not in FROM_3_11],
    ids=lambda p: getattr(p, "__name__", ""),
)
def test_exceptions(scenario, is_whole):
    check_scenario(scenario, is_whole)
