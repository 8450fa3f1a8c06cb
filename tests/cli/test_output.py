import contextlib
import io
import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from squib.cli import logs, output
from squib.cli.options import seconds
from squib.settings import Settings


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


@given(st.text())
def test_json_is_plain_on_a_terminal_and_says_the_same(text):
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        output.say_json({"text": text})
    assert output.clean(shown.getvalue()) == shown.getvalue()
    assert json.loads(shown.getvalue())["text"] == text.encode("utf-8", "replace").decode()


def test_a_log_line_can_neither_act_on_a_terminal_nor_forge_another(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    root = logging.getLogger()
    before = root.handlers, root.level
    try:
        logs.configure(Settings(log_format="console"))
        logging.getLogger("squib.test").warning("said %s", "\x1b]0;a title\x07\n12:00:00 forged")
        structlog.get_logger("squib.test").warning("request", path="/\x1b[2J\x9b31m")
    finally:
        root.handlers, level = before
        root.setLevel(level)
        structlog.reset_defaults()
    assert shown.getvalue().count("\n") == 2
    assert not {"\x1b", "\x07", "\x9b"} & set(shown.getvalue())


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172_800)])
def test_durations(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "m", "-5m", "10 minutes", "1e3"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        seconds(text)
