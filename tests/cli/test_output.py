import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.cli import output
from squib.cli.options import seconds


@given(st.text())
def test_nothing_that_could_act_on_a_terminal_is_left(text):
    cleaned = output.clean(text)
    assert not any(ord(c) < 32 and c not in "\t\n" for c in cleaned)
    assert not any(
        0x7F <= ord(c) <= 0x9F or 0x202A <= ord(c) <= 0x202E or 0x2066 <= ord(c) <= 0x2069 for c in cleaned
    )
    assert "\n" not in output.clean(text, lines=False)


def test_plain_words_stay_as_they_are():
    assert output.clean("Zoë: naïve → 日本\n\tx") == "Zoë: naïve → 日本\n\tx"
    assert output.clean("a\x1b[31mred\r\n") == "a\ufffd[31mred\n"


def test_colours_only_on_a_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.styled("x", "bold", "red") == "\x1b[1;31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.styled("x", "bold", "red") == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert output.styled("x", "bold", "red") == "x"


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172_800)])
def test_durations(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "m", "-5m", "10 minutes", "1e3"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        seconds(text)
