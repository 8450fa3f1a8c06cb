"""The ring holds what fits, gives it back from anywhere, and says what it no longer has."""

import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from squib.guest.ring import Cursor, Ring


def _frame(n: int, size: int = 20) -> bytes:
    return f"{n}:".encode().ljust(size, b"x") + b"\n\n"


def _fill(ring: Ring, count: int, size: int = 20) -> None:
    for _ in range(count):
        assert ring.append(1, _frame(ring.last + 1, size)) is None


def _drain(ring: Ring, cursor: Cursor, size: int = 200) -> tuple[list[int], list[tuple[int, int]]]:
    seen, lost = [], []
    while (batch := ring.read(cursor, size)).frames or batch.lost:
        seen += [int(f.split(b":")[0]) for f in batch.frames.split(b"\n\n") if f]
        lost += [batch.lost] if batch.lost else []
    return seen, lost


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    made = Ring(tmp_path / "ring", 16_000)
    yield made
    made.close()


def test_all_that_fits(ring: Ring) -> None:
    _fill(ring, 100)
    assert _drain(ring, Cursor(0)) == (list(range(1, 101)), [])


@pytest.mark.parametrize("after", [0, 1, 37, 99, 100])
def test_from_anywhere(ring: Ring, after: int) -> None:
    _fill(ring, 100)
    assert _drain(ring, Cursor(after)) == (list(range(after + 1, 101)), [])


def test_the_oldest_go_first_and_are_told(ring: Ring, tmp_path: Path) -> None:
    _fill(ring, 5000)
    seen, lost = _drain(ring, Cursor(0))
    assert lost == [(1, seen[0] - 1)]
    assert seen == list(range(seen[0], 5001))
    held = sum(p.stat().st_size for p in (tmp_path / "ring").iterdir())
    assert 8_000 < held <= 16_000


def test_a_reader_that_is_overtaken(ring: Ring) -> None:
    _fill(ring, 100)
    cursor = Cursor(0)
    ring.read(cursor, 200)
    _fill(ring, 5000)
    before = cursor.n
    seen, lost = _drain(ring, cursor)
    assert lost == [(before + 1, seen[0] - 1)] and seen[-1] == 5100


def test_a_frame_longer_than_a_read(ring: Ring) -> None:
    _fill(ring, 3, 5000)
    assert _drain(ring, Cursor(1)) == ([2, 3], [])


def test_a_long_frame_is_skipped(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", 8_000_000)
    _fill(ring, 3, 400_000)
    assert _drain(ring, Cursor(2)) == ([3], [])
    ring.close()


def test_what_the_disk_refuses_is_lost_and_told(ring: Ring) -> None:
    _fill(ring, 10)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (225, hard))
    try:
        reasons = [ring.append(1, _frame(ring.last + 1)) for _ in range(3)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert any(reasons)
    failed = [n for n, reason in enumerate(reasons, 11) if reason]
    assert _drain(ring, Cursor(0))[1] == [(failed[0], failed[-1])]
    _fill(ring, 2)
    seen, lost = _drain(ring, Cursor(0))
    assert sorted(seen + failed) == list(range(1, 16))
    assert lost == [(failed[0], failed[-1])]


def test_leftovers_are_removed(tmp_path: Path) -> None:
    first = Ring(tmp_path / "ring", 16_000)
    _fill(first, 10)
    second = Ring(tmp_path / "ring", 16_000)
    assert _drain(second, Cursor(0)) == ([], [])
    assert list((tmp_path / "ring").iterdir()) == []
    first.close()


def test_what_another_has_put_in_a_files_place_is_not_read(ring: Ring, tmp_path: Path) -> None:
    _fill(ring, 600)
    ring.release()
    first, second, *_ = sorted((tmp_path / "ring").iterdir())
    first.write_bytes(b"short")
    second.rename(tmp_path / "elsewhere")
    second.symlink_to(tmp_path / "elsewhere")
    ring.reclaim()
    seen, lost = _drain(ring, Cursor(0))
    assert lost == [(1, seen[0] - 1)] and seen[-1] == 600


class Readers(RuleBasedStateMachine):
    """Readers that come, go and lag see each number once, in order, as a frame or within a gap."""

    @initialize(limit=st.integers(500, 20_000))
    def begin(self, limit: int) -> None:

        self.directory = tempfile.TemporaryDirectory()
        self.ring = Ring(Path(self.directory.name), limit)
        self.readers = [(Cursor(0), 0)]

    @rule(count=st.integers(1, 50), size=st.integers(10, 300))
    def write(self, count: int, size: int) -> None:
        frames = b"".join(_frame(self.ring.last + 1 + i, size) for i in range(count))
        self.ring.append(count, frames)

    @rule(data=st.data())
    def be_away(self, data: st.DataObject) -> None:
        """What files are not there any more on the return is lost like what had to go; the rest is there."""
        self.ring.release()
        files = sorted(Path(self.directory.name).iterdir())
        for file in data.draw(st.lists(st.sampled_from(files), unique=True)) if files else []:
            file.unlink()
        self.ring.reclaim()

    @rule(data=st.data())
    def come(self, data: st.DataObject) -> None:
        after = data.draw(st.integers(0, self.ring.last))
        self.readers.append((Cursor(after), after))

    @rule(data=st.data(), size=st.integers(1, 5000))
    def read(self, data: st.DataObject, size: int) -> None:
        place = data.draw(st.integers(0, len(self.readers) - 1))
        cursor, seen = self.readers[place]
        batch = self.ring.read(cursor, size)
        if batch.lost:
            assert batch.lost[0] == seen + 1 and batch.lost[1] >= batch.lost[0]
            seen = batch.lost[1]
        for frame in batch.frames.split(b"\n\n")[:-1]:
            assert int(frame.split(b":")[0]) == seen + 1
            seen += 1
        if not batch.lost and not batch.frames:
            assert seen == self.ring.last
        assert cursor.n == seen
        self.readers[place] = (cursor, seen)

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "ring"):
            assert len(list(Path(self.directory.name).iterdir())) <= 20

    def teardown(self) -> None:
        if hasattr(self, "ring"):
            self.ring.close()
            self.directory.cleanup()


TestReaders = Readers.TestCase
TestReaders.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
