from pathlib import Path

import pytest

from squib.contracts.errors import HostFull
from squib.host import uids


def test_each_machine_has_an_id_of_its_own_and_a_freed_one_goes_round_first() -> None:
    table = uids.Uids(range(500, 503))
    assert [table.take(name) for name in "ab"] == [500, 501]
    table.release(500, "a")
    assert table.take("c") == 502
    assert table.take("d") == 500
    with pytest.raises(HostFull):
        table.take("e")


def test_releasing_what_another_machine_has_by_now_does_nothing() -> None:
    table = uids.Uids(range(500, 501))
    table.take("old")
    table.release(500, "old")
    table.take("new")
    table.release(500, "old")
    assert table.foreign(500, "old")
    assert not table.foreign(500, "new")


def test_an_adopted_machines_id_is_not_handed_out() -> None:
    table = uids.Uids(range(500, 502))
    table.hold(500, "adopted")
    assert table.take("new") == 501


def test_a_machine_that_goes_on_has_the_id_that_was_held_for_it() -> None:
    table = uids.Uids(range(500, 502))
    table.hold(501, "suspended")
    assert [table.take(name) for name in ("suspended", "new")] == [501, 500]


@pytest.mark.parametrize("block", [range(10), range(5, 5)])
def test_root_is_never_in_a_block(block: range) -> None:
    with pytest.raises(ValueError, match="0"):
        uids.Uids(block)


def test_two_installations_have_blocks_apart_and_keep_them(tmp_path: Path) -> None:
    registry, one, other = tmp_path / "uids", tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    mine = uids.reserve(one, 200_000_000, 100, registry)
    theirs = uids.reserve(other, 200_000_000, 100, registry)
    assert len(mine) == len(theirs) == 100
    assert not set(mine) & set(theirs)
    assert uids.reserve(one, 200_000_000, 100, registry) == mine


def test_a_block_is_free_again_when_given_back_or_when_its_state_directory_is_gone(tmp_path: Path) -> None:
    registry, one, other = tmp_path / "uids", tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    mine = uids.reserve(one, 200_000_000, 100, registry)
    one.rmdir()
    assert uids.reserve(other, 200_000_000, 100, registry) == mine
    uids.give_back(other, mine, registry)
    one.mkdir()
    assert uids.reserve(one, 200_000_000, 100, registry) == mine


def test_giving_back_anothers_block_does_nothing(tmp_path: Path) -> None:
    registry, one = tmp_path / "uids", tmp_path / "one"
    one.mkdir()
    mine = uids.reserve(one, 200_000_000, 100, registry)
    uids.give_back(tmp_path / "stranger", mine, registry)
    assert uids.reserve(one, 200_000_000, 100, registry) == mine


def test_ranges_of_subordinate_ids_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subordinate = tmp_path / "subuid"
    subordinate.write_text("somebody:165536:65536\n")
    monkeypatch.setattr(uids, "SUBORDINATE", (subordinate,))
    (tmp_path / "state").mkdir()
    assert uids.reserve(tmp_path / "state", 200_000, 100, tmp_path / "uids").start == 165_536 + 65_536


def test_a_pinned_id_stays_the_machines_until_it_is_let_go() -> None:
    table = uids.Uids(range(1000, 1002))
    uid = table.take("one")
    table.pin(uid, "one")
    table.release(uid, "one")
    assert table.take("two") != uid
    assert table.take("one") == uid
    table.unpin("one")
    table.release(uid, "one")
    assert table.take("three") == uid
