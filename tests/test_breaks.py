"""Functions with graph breaks behave as in eager, and `explain` names every break."""

import array
import re

import lampwork
import pytest
import torch


def with_print(x: torch.Tensor) -> torch.Tensor:
    y = torch.relu(x) * 2
    print("in the middle")
    return y + x.sum()


def with_extension_call(x: torch.Tensor) -> torch.Tensor:
    y = torch.sin(x)
    numbers = array.array("d", [1.0, 2.0])
    numbers.append(3.0)
    return y * len(numbers) + numbers[2]


def with_item_branch(x: torch.Tensor) -> torch.Tensor:
    y = x * 3
    if y.sum().item() > 0:
        return torch.cos(y) + 1
    return torch.sin(y) - 1


def in_with_and_try(x: torch.Tensor, log: list[str]) -> torch.Tensor:
    try:
        with torch.no_grad():
            y = x * 2
            print("inside", torch.is_grad_enabled())
            y = y + 1
            log.append("before")
            if y.sum().item() < 0:
                raise ValueError("negative")
    except ValueError as error:
        log.append(str(error))
        y = x - 1
    finally:
        log.append("finally")
    return y * 2


@pytest.mark.parametrize("function", [with_print, with_extension_call, with_item_branch], ids=lambda f: f.__name__)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_break_in_the_middle(function, sign: float, capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.rand(5) * sign
    expected = function(x)
    printed = capsys.readouterr().out
    compiled = torch.compile(function, backend="lampwork")
    for _ in range(3):
        torch.testing.assert_close(compiled(x), expected)
        assert capsys.readouterr().out == printed
    torch.testing.assert_close(compiled(-x), function(-x))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_break_inside_with_and_try(sign: float, capsys: pytest.CaptureFixture[str]) -> None:
    x = (torch.rand(5) + 1) * sign
    x.requires_grad_()
    expected_log: list[str] = []
    expected = in_with_and_try(x, expected_log)
    printed = capsys.readouterr().out
    compiled = torch.compile(in_with_and_try, backend="lampwork")
    for _ in range(2):
        log: list[str] = []
        result = compiled(x, log)
        torch.testing.assert_close(result, expected)
        assert result.requires_grad == expected.requires_grad
        assert (log, capsys.readouterr().out) == (expected_log, printed)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("function", [with_print, with_extension_call, with_item_branch], ids=lambda f: f.__name__)
def test_explain_names_id_line_and_hint(function) -> None:
    explanation = lampwork.explain(function)(torch.rand(5))
    breaks = explanation.graph_breaks
    assert breaks
    text = str(explanation)
    for record in breaks:
        assert re.fullmatch(r"LW\d{3}", record.break_id.code)
        assert record.user_line is not None and record.user_line.filename == __file__
        assert record.hint
        assert record.break_id.code in text and record.hint in text and str(record.user_line.line) in text


def test_fullgraph_raises_with_the_line() -> None:
    compiled = torch.compile(with_print, backend="lampwork", fullgraph=True)
    with pytest.raises(Exception, match=r"LW\d{3}") as caught:
        compiled(torch.rand(3))
    assert "test_breaks.py" in str(caught.value) and "hint" in str(caught.value).lower()
