"""Ids: valid labels, sorted by time, never twice, and checked before they become paths."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.contracts import ids


def test_ids_are_dns_labels_and_unique() -> None:
    minted = [ids.new_id("task") for _ in range(2000)]
    assert len(set(minted)) == 2000
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", i) for i in minted)
    assert all(ids.is_id(i, "task") for i in minted)


def test_ids_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**18, 10**16))
    monkeypatch.setattr(ids.time, "time_ns", lambda: next(clock))
    minted = [ids.new_id("sbx") for _ in range(100)]
    assert minted == sorted(minted)


@given(st.text(max_size=40))
def test_nothing_else_passes_for_an_id(text: str) -> None:
    assert not ids.is_id(text, "task")


@pytest.mark.parametrize("tail", ["/../x", "\n", "", "0"])
def test_a_near_miss_is_no_id(tail: str) -> None:
    good = ids.new_id("mch")
    assert not ids.is_id(good[:-1] + tail if tail != "0" else good + tail, "mch")
    assert not ids.is_id(good, "task")


def test_tokens_hold_256_bits() -> None:
    assert ids.new_token() != ids.new_token()
    assert len(ids.new_token()) >= 43 + len("sqb_")
