"""What is asked of the process that has the rights: only what is well-formed is done, nothing makes it fall."""

import base64
import json
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.guest import rights

GOOD = {
    "entropy": base64.b64encode(bytes(32)).decode(),
    "time": 1_800_000_000.5,
    "hostname": "squib-1",
    "machine_id": "0123456789abcdef" * 2,
}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def test_what_is_well_formed() -> None:
    assert rights.wrong(GOOD) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("entropy", value) for value in ("", "AAAA", "!" * 44, "é" * 44, None, 7, [1])),
        *(("entropy", base64.b64encode(bytes(size)).decode()) for size in (31, 1025)),
        *(("time", value) for value in (0, -1.0, float("nan"), float("inf"), 2**41, "1", None)),
        *(("hostname", value) for value in ("", "-a", "a-", "a.b", "a\n", "a" * 65, "é", None, ["a"])),
        *(("machine_id", value) for value in ("", "0" * 31, "0" * 33, "A" * 32, "0" * 32 + "\n", None, 0)),
    ],
)
def test_what_is_not(field: str, value: object) -> None:
    assert rights.wrong({**GOOD, field: value}) == [field]
    assert json.loads(rights.answer(json.dumps({"identity": {**GOOD, field: value}}).encode()))["failed"]


def test_nothing_yet() -> None:
    assert rights.answer(b'{"identity": null}') == b'{"failed": []}'


@given(st.binary() | _JSON.map(lambda value: json.dumps({"identity": value}).encode()))
def test_any_message_has_an_answer(message: bytes) -> None:
    assert isinstance(json.loads(rights.answer(message))["failed"], list)


def test_what_could_not_be_written_does_not_count_as_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in that is there counts as bound: what a full disk left would hide that the old name still shows."""
    monkeypatch.setattr(rights, "_PLACE", str(tmp_path / "place"))
    (target := tmp_path / "shown").write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            rights._stand_in(str(target), "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "place").iterdir()) == []
