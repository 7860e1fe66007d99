"""Modes and options reach the core's config, and a wrong one fails at once with a suggestion."""

import pytest
from lampwork.options import MODES, OptionError, core_options


def test_options_reach_both_configs() -> None:
    chosen = core_options(None, {"channels_last": False, "reuse_buffers": False}).config
    assert not chosen.channels_last and not chosen.schedule.reuse_buffers
    assert all(core_options(mode, None) for mode in MODES)


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("max-autotun", None, "did you mean 'max-autotune'"),
        (None, {"channel_last": True}, "did you mean 'channels_last'"),
        (None, {"channels_last": 1}, "type bool"),
        (None, {"zzz": 1}, "known: "),
    ],
)
def test_wrong_names_and_types(mode: str | None, options: dict[str, object] | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        core_options(mode, options)
