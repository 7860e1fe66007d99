"""The hook beside other threads and other evaluators: what it costs those who do not capture, and who sees which frame.

The hook is one for all threads of an interpreter, and torch's own capture installs an evaluator as well, above or below
it. Each program runs in a process of its own: some would end it, and what torch leaves installed shall stay there.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import sys, threading
import torch
from lampwork_capture import _native

set_eval_frame = torch._C._dynamo.eval_frame.set_eval_frame
DEEP = 20_000 if sys.version_info >= (3, 11) else 5_000  # every Python call of 3.10 takes C stack anyway

def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)

def optimized(function, answer=lambda view, entries: _native.SKIP):
    return _native.OptimizedCallable(function, answer)

def in_another_thread():
    "A thread that is inside an optimized call until what is returned is called."
    entered, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=optimized(lambda: (entered.set(), leave.wait())))
    thread.start()
    entered.wait()
    return lambda: (leave.set(), thread.join())
"""


def run(program: str) -> None:
    code = PRELUDE + textwrap.dedent(program)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_deep_recursion_in_a_thread_that_does_not_capture() -> None:
    run("""
        leave = in_another_thread()
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(60_000)
        assert depth(DEEP) == DEEP
        sys.setrecursionlimit(limit)
        try:
            depth(10**6)
        except RecursionError:
            pass
        assert _native.is_installed()
        leave()
        assert not _native.is_installed()
    """)


def test_deep_recursion_of_an_optimized_call_while_another_thread_captures() -> None:
    run("""
        leave = in_another_thread()
        sys.setrecursionlimit(60_000)
        for answer in (_native.SKIP, None):
            assert optimized(depth, lambda view, entries: answer)(DEEP) == DEEP
        assert _native.is_installed()
        leave()
        assert not _native.is_installed()
    """)


def test_the_hook_is_off_for_all_threads_only_while_one_is_deep() -> None:
    """Calls of a thread that captures run plainly meanwhile, and as replaced again afterwards."""
    run("""
        def f():
            return "original"

        namespace = {}
        exec("def f(): return 'replaced'", namespace)
        replacement = namespace["f"].__code__

        def entry(view, entries):
            return _native.CacheEntry(None, replacement) if view.code is f.__code__ else None

        begin, deep, shallow, done = (threading.Event() for _ in range(4))
        seen = []

        def program():
            seen.append(f())
            begin.set()
            deep.wait()
            seen.append(f())
            done.set()
            shallow.wait()
            seen.append(f())

        def bottom(n):
            if n > 0:
                return bottom(n - 1)
            assert not _native.is_installed()
            deep.set()
            done.wait()

        sys.setrecursionlimit(60_000)
        thread = threading.Thread(target=optimized(program, entry))
        thread.start()
        begin.wait()
        assert _native.is_installed()
        bottom(DEEP)
        assert _native.is_installed()
        shallow.set()
        thread.join()
        assert seen == ["replaced", "original", "replaced"], seen
        assert not _native.is_installed()
    """)


def test_an_activation_is_seen_while_another_thread_is_deep() -> None:
    """It puts the hook back, for itself and for those that were active before; the deep thread takes it off again."""
    run("""
        def f():
            return "original"

        namespace = {}
        exec("def f(): return 'replaced'", namespace)
        replacement = namespace["f"].__code__

        def entry(view, entries):
            return _native.CacheEntry(None, replacement) if view.code is f.__code__ else None

        def in_a_thread(function):
            answers = []
            thread = threading.Thread(target=lambda: answers.append(function()))
            thread.start()
            thread.join()
            return answers[0]

        def idle():
            return _native.is_installed()

        def bottom(n):
            if n > 0:
                return bottom(n - 1)
            assert not _native.is_installed()
            leave = in_another_thread()
            assert _native.is_installed()
            assert not idle()
            assert _native.is_installed()
            for _ in range(3):
                assert in_a_thread(optimized(f, entry)) == "replaced"
                assert optimized(f, entry)() == "replaced"
                assert not idle()
            leave()
            assert depth(1000) == 1000
            return "bottom"

        sys.setrecursionlimit(60_000)
        for is_active in (False, True):
            leave = in_another_thread()
            if is_active:  # below this frame the hook is off in this thread, too
                assert optimized(bottom, lambda view, entries: _native.SKIP_RECURSIVE)(DEEP) == "bottom"
            else:
                assert bottom(DEEP) == "bottom"
            assert _native.is_installed()
            leave()
            assert not _native.is_installed()
    """)


def test_activations_at_each_level_of_a_deep_recursion() -> None:
    """Each puts the hook back, after which a frame takes C stack once more."""
    run("""
        def climb(n):
            nothing()
            return 0 if n == 0 else 1 + climb(n - 1)

        nothing = optimized(lambda: None)
        leave = in_another_thread()
        sys.setrecursionlimit(60_000)
        assert climb(DEEP) == DEEP
        assert _native.is_installed()
        leave()
        assert not _native.is_installed()
        assert climb(DEEP) == DEEP
    """)


def test_an_evaluator_below_sees_each_frame_of_a_deep_recursion() -> None:
    """Also the one at which the hook is taken off, which is handed to it by the hook."""
    run("""
        from torch._dynamo.types import ConvertFrameReturn

        seen = []

        def answer(frame, *_):
            seen.append(frame.f_code.co_name)
            return ConvertFrameReturn()

        deep = 600 if sys.version_info[:2] == (3, 12) else 3000  # torch's evaluator alone bounds the depth there
        names = [f"f{i}" for i in range(1, deep + 1)]
        namespace = {"f0": _native.is_installed}
        for i in range(1, deep + 1):
            exec(f"def f{i}(): return f{i - 1}()", namespace)
        sys.setrecursionlimit(20_000)
        threading.stack_size(256 << 20)

        def program():
            set_eval_frame(answer)
            leave = in_another_thread()
            try:
                installed.append(namespace[names[-1]]())
            finally:
                leave()
                set_eval_frame(None)

        installed = []
        thread = threading.Thread(target=program)
        thread.start()
        thread.join()
        assert installed == [False]
        missed = set(names).difference(seen)
        assert not missed, missed
    """)


def test_an_evaluator_that_leaves_while_a_callback_is_deep_is_not_put_back() -> None:
    """A callback hides the evaluator below the hook from what it calls, however deep, and holds no evaluator back."""
    run("""
        import ctypes
        from torch._dynamo.types import ConvertFrameReturn

        top = ctypes.pythonapi._PyInterpreterState_GetEvalFrameFunc
        top.restype, top.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        ctypes.pythonapi.PyInterpreterState_Get.restype = ctypes.c_void_p
        interpreter = ctypes.pythonapi.PyInterpreterState_Get()
        default = ctypes.cast(ctypes.pythonapi._PyEval_EvalFrameDefault, ctypes.c_void_p).value
        assert top(interpreter) == default
        seen, left = [], []

        def bottom(n):
            if n > 0:
                return bottom(n - 1)
            set_eval_frame(None)
            left.append(top(interpreter))

        def answer(view, entries):
            bottom(2000)
            return _native.SKIP

        def torch_sees(frame, *_):
            seen.append(frame.f_code.co_name)
            return ConvertFrameReturn()

        sys.setrecursionlimit(20_000)
        set_eval_frame(torch_sees)
        _native.set_callback(answer)  # an optimized call would have torch's evaluator off
        (lambda: None)()
        _native.set_callback(None)
        assert left == [default]
        assert top(interpreter) == default
        assert "bottom" not in seen, seen
    """)


def test_a_frame_that_goes_round_is_asked_about_once() -> None:
    """torch's evaluator was installed over the hook, which was then put on top: each has the other below it."""
    run("""
        entered, leave = threading.Event(), threading.Event()

        def other_capture():
            set_eval_frame(False)
            entered.set()
            leave.wait()
            set_eval_frame(None)

        thread = threading.Thread(target=other_capture)
        optimized(lambda: (thread.start(), entered.wait()))()
        asked = []

        def f():
            return "f"

        def answer(view, entries):
            asked.append(view.code)

        assert optimized(f, answer)() == "f"
        assert asked == [f.__code__]
        assert optimized(depth, answer)(10) == 10
        assert asked[1:] == [depth.__code__] * 11
        assert depth(300) == 300
        leave.set()
        thread.join()
    """)


def test_a_hook_that_another_evaluator_puts_back_goes_with_the_next_frame() -> None:
    run("""
        optimized(lambda: set_eval_frame(False))()
        assert not _native.is_installed()
        set_eval_frame(None)  # what torch had found installed
        assert _native.is_installed()
        (lambda: None)()
        assert not _native.is_installed()
        leave = in_another_thread()
        assert _native.is_installed()
        leave()
        assert not _native.is_installed()
    """)


@pytest.mark.parametrize("above", [True, False])
def test_an_evaluator_that_torch_left_behind(above: bool) -> None:
    """A compilation that fails leaves torch's evaluator installed for good, above the hook or below it."""
    run(f"""
        def refused(x):
            return torch.cond(x.sum() > 0, lambda a: a, lambda a: a.cos(), (x,))

        def fail():
            try:
                refused(torch.ones(3))
            except torch._dynamo.exc.UncapturedHigherOrderOpError:
                return True

        assert optimized(fail)() if {above} else fail()
        asked = []
        assert optimized(depth, lambda view, entries: asked.append(view.code))(10) == 10
        assert asked == [depth.__code__] * 11
        if sys.version_info < (3, 12):  # from 3.12 on torch's evaluator alone bounds the depth
            sys.setrecursionlimit(60_000)
            assert depth(DEEP) == DEEP
            assert optimized(depth, lambda view, entries: None)(DEEP) == DEEP
    """)
