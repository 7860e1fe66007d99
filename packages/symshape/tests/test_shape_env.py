"""ShapeEnv: symbols, facts with the user's line, specialization; dimension policy; guards over the inputs."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lampwork_symshape import (
    ContradictionError,
    DataDependentError,
    DimDecision,
    DimMark,
    DimPolicy,
    Quantity,
    ShapeEnv,
    SizeSource,
    Symbol,
    SymbolKind,
    UserFrame,
    decide_dims,
    eq,
    ge,
    gt,
    le,
    lt,
    ne,
    not_,
    shape_guards,
)

LINE = UserFrame("model.py", 12, "forward", "if x.shape[0] > 4:")


def new_env(*, duck_shaping: bool = True) -> ShapeEnv:
    return ShapeEnv(duck_shaping=duck_shaping, find_frame=lambda: LINE)


def test_answers_by_hint_become_facts_with_the_users_line() -> None:
    env = new_env()
    s = env.create_backed(6, "x.size(0)")
    assert env.known(gt(s, 4)) is None
    assert env.evaluate(gt(s, 4)) is True
    assert [str(f) for f in env.facts] == ["s0 > 4  # model.py:12 in forward: if x.shape[0] > 4:"]
    assert env.evaluate(gt(s, 3)) is True and env.evaluate(lt(s, 2)) is False, "implied: nothing new"
    assert env.evaluate(eq(s % 4, 0)) is False
    assert [f.condition for f in env.facts] == [gt(s, 4), ne(s % 4, 0)]


def test_a_question_asked_again_is_one_fact() -> None:
    env = ShapeEnv()
    s = env.create_backed(5, "x.size(0)")
    for _ in range(2):
        assert env.evaluate_int((s - 1) // ((s + 1) // 2)) == 1  # which its own fact does not show by proof
        assert env.evaluate(gt(s, 4))
    assert len(env.facts) == 2


def test_ranges_answer_without_facts() -> None:
    env = new_env()
    s = env.create_backed(6, "x.size(0)")
    assert env.evaluate(ge(s, 2)) and not env.evaluate(eq(s, 1)) and env.evaluate(True)
    assert env.facts == ()


def test_equal_sizes_share_a_symbol_only_under_duck_shaping() -> None:
    env = new_env()
    assert env.create_backed(6, "x.size(0)") is env.create_backed(6, "y.size(0)")
    assert env.create_backed(7, "y.size(1)") is not env.create_backed(6, "x.size(0)")
    apart = new_env(duck_shaping=False)
    assert apart.create_backed(6, "x.size(0)") is not apart.create_backed(6, "y.size(0)")


def test_specialization_names_its_line() -> None:
    env = new_env()
    s = env.create_backed(6, "x.size(0)")
    assert env.evaluate_int(2 * s + 1) == 13
    assert [str(x) for x in env.specializations] == ["x.size(0) became 6 because of " + str(LINE)]
    assert env.simplified(s * s) == 36
    assert env.evaluate(lt(s, 7)) and len(env.facts) == 1


def test_equal_symbols_are_replaced() -> None:
    env = new_env()
    s, t = env.create_backed(6, "x.size(0)"), env.create_backed(12, "y.size(0)")
    assert env.evaluate(eq(t, 2 * s)) is True
    assert env.simplified(t * 3 - 6 * s) == 0
    assert env.known(eq(t % 2, 0)) is True


def test_unbacked_values_need_statements() -> None:
    env = new_env()
    u = env.create_unbacked("mask.nonzero()", lower=0)
    assert env.describe(u).kind is SymbolKind.UNBACKED and env.hint_of(u) is None
    with pytest.raises(DataDependentError, match=r"mask.nonzero\(\).*model.py:12.*torch._check"):
        env.evaluate(gt(u, 3))
    with pytest.raises(DataDependentError, match="value of"):
        env.evaluate_int(u + 1)
    env.require(gt(u, 5))
    assert env.evaluate(gt(u, 3)) is True
    assert env.facts[0].deferred
    with pytest.raises(ContradictionError, match="cannot hold"):
        env.require(lt(u, 2))
    env.specialize(u, 9)
    assert env.simplified(u + 1) == 10


def test_a_requirement_that_the_hints_deny_is_refused() -> None:
    env = new_env()
    s = env.create_backed(6, "x.size(0)")
    with pytest.raises(ContradictionError):
        env.require(lt(s, 6))
    with pytest.raises(ValueError, match="outside the bounds"):
        env.create_backed(1, "x.size(1)")


def test_suppressed_questions_leave_no_facts() -> None:
    env = new_env()
    s = env.create_backed(6, "x.size(0)")
    with env.suppress_facts():
        assert env.evaluate(gt(s, 4)) is True
    assert env.facts == () and env.known(gt(s, 4)) is None


def test_the_users_line_is_found_on_the_stack() -> None:
    env = ShapeEnv()
    s = env.create_backed(6, "x.size(0)")
    env.evaluate(gt(s, 4))  # this line
    frame = env.facts[0].frame
    assert frame is not None and frame.filename == __file__ and frame.text.endswith("# this line")


# ------------------------------------------------------------------------------------------------------------ policy


def test_static_is_the_default() -> None:
    assert [d.symbolic for d in decide_dims([4, 8])] == [False, False]
    env = new_env()
    assert env.create_size(4, "x.size(0)", decide_dims([4])[0]) == 4 and env.symbols == ()


def test_automatic_dims_are_those_that_varied() -> None:
    decisions = decide_dims([5, 8], dynamic=None, varied=frozenset({0}))
    assert [(d.policy, d.symbolic) for d in decisions] == [(DimPolicy.AUTOMATIC, True), (DimPolicy.STATIC, False)]


def test_marks_win() -> None:
    marks = {0: DimMark(True, 1, 64), 1: DimMark(False)}
    decisions = decide_dims([1, 8, 3, 1], dynamic=True, marks=marks)
    assert decisions[0] == DimDecision(DimPolicy.MARKED, True, 1, 64)
    assert [d.symbolic for d in decisions] == [True, False, True, False]


# ------------------------------------------------------------------------------------------------------------ guards


def test_guards_read_like_the_program() -> None:
    env = new_env()
    s, t = env.create_backed(6, "x.size(0)"), env.create_backed(8, "x.size(1)", lower=1, upper=64)
    env.evaluate(gt(s, 3))
    env.evaluate(gt(s, 4))  # implies the one before
    env.evaluate(eq(t % 4, 0))
    sources = {s: [SizeSource("x", 0), SizeSource("y", 1)], t: [SizeSource("x", 1)]}
    guards = shape_guards(env, sources)
    assert guards.python() == (
        "y.size(1) == x.size(0)",
        "x.size(1) >= 1",
        "x.size(1) <= 64",
        "x.size(0) > 4",
        "x.size(1) % 4 == 0",
    )
    assert pickle.loads(pickle.dumps(guards)) == guards
    at = {SizeSource("x", 0): 6, SizeSource("y", 1): 6, SizeSource("x", 1): 8}
    assert guards.violated(at) is None
    assert guards.violated({**at, SizeSource("y", 1): 5}) == "y.size(1) == x.size(0) fails: 5 and 6"
    assert guards.violated({**at, SizeSource("x", 1): 65}) == "x.size(1) is 65, outside [1, 64]"
    failed = guards.violated({**at, SizeSource("x", 1): 7})
    assert failed == f"x.size(1) % 4 == 0 fails: x.size(1) is 7; needed by {LINE}"


def test_other_quantities_and_missing_inputs() -> None:
    env = new_env()
    s = env.create_backed(6, "n", lower=None)
    env.evaluate(gt(s, 3))
    guards = shape_guards(env, {s: [SizeSource("n", quantity=Quantity.VALUE), SizeSource("x", 1, Quantity.STRIDE)]})
    assert guards.python() == ("x.stride(1) == n", "n >= 4")
    with pytest.raises(ValueError, match="no input gives s0"):
        shape_guards(env, {})


def test_facts_about_unbacked_values_wait_for_the_run() -> None:
    env = new_env()
    s, u = env.create_backed(6, "x.size(0)"), env.create_unbacked("n.item()", lower=0)
    env.require(le(u, s))
    guards = shape_guards(env, {s: [SizeSource("x", 0)]})
    assert guards.checks == () and [f.condition for f in guards.deferred] == [le(u, s)]


@settings(max_examples=200, deadline=None)
@given(st.tuples(st.integers(2, 9), st.integers(2, 9)), st.lists(st.integers(0, 9), max_size=6), st.data())
def test_guards_accept_exactly_what_gives_the_same_answers(
    hints: tuple[int, int], questions: list[int], data: st.DataObject
) -> None:
    env = new_env(duck_shaping=False)
    s, t = (env.create_backed(h, f"x.size({d})") for d, h in enumerate(hints))
    asked = [
        (gt(s, 4), eq(s % 2, 0), lt(s, t), eq(s, t), le(s + t, 9), eq(s * t, 12), ge(2 * s, t), lt(s // 2, t % 3),
         not_(eq(t, 5)), eq(s, 2 * t))[q]
        for q in questions
    ]  # fmt: skip
    answers = [env.evaluate(q) for q in asked]
    guards = shape_guards(env, {s: [SizeSource("x", 0)], t: [SizeSource("x", 1)]})
    for a in range(1, 11):
        for b in range(1, 11):
            at: dict[Symbol, int] = {s: a, t: b}
            same = a >= 2 and b >= 2 and [q.evaluate(at) for q in asked] == answers
            accepted = guards.violated({SizeSource("x", 0): a, SizeSource("x", 1): b}) is None
            assert accepted == same, (guards.python(), a, b)


def test_larger_sizes_answer_without_a_fact() -> None:
    env = ShapeEnv(duck_shaping=False)
    a, b = env.create_backed(4, "a", lower=1), env.create_backed(6, "b", lower=1)
    with env.as_larger_sizes():
        assert not env.evaluate(eq(a, 1))
        assert env.evaluate(ne(a * b, 1))
        assert env.evaluate(lt(b, a * b))
        assert not env.facts
        with env.as_larger_sizes(False):
            assert not env.evaluate(eq(b, 1))
        assert [f.condition for f in env.facts] == [ne(b, 1)]
        assert not env.evaluate(eq(a, b))  # sizes from 2 on do not settle it
    assert len(env.facts) == 2


def test_larger_sizes_never_answer_for_a_size_of_one() -> None:
    env = ShapeEnv(duck_shaping=False)
    one, zero = env.create_backed(1, "one", lower=1), env.create_backed(4, "zero", lower=0)
    with env.as_larger_sizes():
        assert env.evaluate(eq(one, 1))
        assert not env.evaluate(eq(zero, 0))
    assert len(env.facts) == 2


def test_only_equalities_are_recorded() -> None:
    env = ShapeEnv(duck_shaping=False)
    a, b = env.create_backed(4, "a", lower=1), env.create_backed(4, "b", lower=1)
    with env.only_equalities():
        assert env.evaluate(lt(a, 16))
        assert not env.facts
        assert env.evaluate(eq(a, b))
    assert [f.condition for f in env.facts] == [eq(a, b)]


def test_what_is_reconsidered_leaves_no_trace():
    env = ShapeEnv()
    n = env.create_backed(4, "x.size(0)")
    env.evaluate(ge(n, 3))
    with env.reconsidering({n: 7}) as found:
        assert env.evaluate(ge(n, 3)) and not found  # what was recorded before still holds
        assert env.evaluate(ge(n, 6))
        assert env.evaluate_int(n) == 7
    assert [str(fact.condition) for fact in found] == [str(ge(n, 6)), str(eq(n, 7))]
    assert len(env.facts) == 1 and env.hint_of(n) == 4 and not env.specializations
    assert not env.evaluate(ge(n, 6))
