"""Wrong input raises what eager raises; a failing backend falls back with one warning, or raises when asked to."""

import warnings

import lampwork_capture
import pytest
import torch


def matmul(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.relu(x @ y)


def test_wrong_shapes_raise_what_eager_raises() -> None:
    compiled = torch.compile(matmul, backend="lampwork")
    x, good, bad = torch.randn(2, 3), torch.randn(3, 4), torch.randn(5, 4)
    torch.testing.assert_close(compiled(x, good), matmul(x, good))
    with pytest.raises(RuntimeError) as eager:
        matmul(x, bad)
    with pytest.raises(RuntimeError) as ours:
        compiled(x, bad)
    assert type(ours.value) is type(eager.value) and str(ours.value) == str(eager.value)
    torch.testing.assert_close(compiled(x, good), matmul(x, good))


@pytest.mark.parametrize(
    ("arguments", "error"), [((1,), TypeError), ((torch.ones(2, 2), "text"), TypeError), ((None, None), TypeError)]
)
def test_wrong_arguments_raise_what_eager_raises(arguments: tuple[object, ...], error: type[Exception]) -> None:
    with pytest.raises(error) as eager:
        matmul(*arguments)
    with pytest.raises(error) as ours:
        torch.compile(matmul, backend="lampwork")(*arguments)
    assert str(ours.value) == str(eager.value)


def test_index_out_of_bounds() -> None:
    def lookup(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return table[rows] * 2

    compiled = torch.compile(lookup, backend="lampwork")
    table = torch.randn(4, 3)
    torch.testing.assert_close(compiled(table, torch.tensor([0, -1])), lookup(table, torch.tensor([0, -1])))
    with pytest.raises(IndexError):
        lookup(table, torch.tensor([0, 4]))
    with pytest.raises(IndexError):
        compiled(table, torch.tensor([0, 4]))


class BackendFailed(RuntimeError):
    pass


def failing_backend(graph: torch.fx.GraphModule, example_inputs: object) -> object:
    raise BackendFailed("no such kernel")


def test_a_failing_backend_warns_once_and_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMPWORK_STRICT")
    compiled = lampwork_capture.optimize(failing_backend)(matmul)
    x, y = torch.randn(2, 3), torch.randn(3, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            torch.testing.assert_close(compiled(x, y), matmul(x, y))
    messages = [str(w.message) for w in caught if "no such kernel" in str(w.message)]
    assert len(messages) == 1 and "test_errors.py" in messages[0]


def test_a_failing_backend_raises_under_fullgraph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMPWORK_STRICT")
    with pytest.raises(Exception, match="no such kernel"):
        lampwork_capture.optimize(failing_backend, fullgraph=True)(matmul)(torch.ones(2, 2), torch.ones(2, 2))


def test_a_failing_backend_raises_when_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMPWORK_STRICT", "1")
    with pytest.raises(Exception, match="no such kernel"):
        lampwork_capture.optimize(failing_backend)(matmul)(torch.ones(2, 2), torch.ones(2, 2))


def test_unknown_mode_and_option_fail_at_once() -> None:
    with pytest.raises(ValueError, match="max-autotune"):
        torch.compile(matmul, backend="lampwork", mode="max-autotun")
    with pytest.raises(ValueError, match="unknown option"):
        torch.compile(matmul, backend="lampwork", options={"no_such_option": 1})
