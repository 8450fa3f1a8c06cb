import os
import stat
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.errors import Conflict, InfrastructureError, NotFound
from squib.contracts.snapshot import Fabric, Part, Snapshot
from squib.host.snapshots import Snapshots
from squib.host.snapshots.store import take_over

FABRIC = Fabric("gvisor", "1", "2", "3")


def manifest(**changes: object) -> Snapshot:
    parts = (Part("memory", 3, ""),)
    about = {"id": ids.new_id("snp"), "image": "host", "image_name": "host", "fabric": FABRIC, "guest": "g"}
    about |= {"cpu": 1.0, "memory": 2, "disk": 3, "machine_id": "m", "made_with": "w", "created_at": 1.0, "size": 3}
    return Snapshot(**{**about, "parts": parts, **changes})  # type: ignore[arg-type]


def keep(store: Snapshots, snapshot: Snapshot) -> None:
    with store.workshop() as workshop:
        (workshop / "made" / "parts").mkdir(parents=True)
        store.commit(workshop / "made", snapshot)


def test_one_is_there_by_one_rename_and_found_by_its_end(tmp_path: Path) -> None:
    store, older, newer = Snapshots(tmp_path), manifest(), manifest()
    keep(store, older)
    keep(store, newer)
    assert [stored.snapshot for stored in store.all()] == sorted((older, newer), key=lambda s: s.id, reverse=True)
    assert store.get(older.id[-10:]).snapshot == older
    assert stat.S_IMODE((store.get(older.id).path / "manifest.json").stat().st_mode) == 0o600
    for name in ("snp-unknown", older.id[-3:], ""):
        with pytest.raises(NotFound):
            store.get(name)
    assert store.remove(older.id).snapshot == older
    assert [stored.id for stored in store.all()] == [newer.id]
    assert [path.name for path in store.root.iterdir()] == [newer.id]


def test_what_a_killed_maker_left_goes_and_what_is_being_made_stays(tmp_path: Path) -> None:
    store = Snapshots(tmp_path)
    with store.workshop() as one:
        (left := store.root / ".making-left").mkdir()
        with store.workshop() as two:
            assert one.is_dir()
            assert two.is_dir()
            assert not left.exists()
    assert list(store.root.iterdir()) == []


def test_two_do_not_build_at_once(tmp_path: Path) -> None:
    store = Snapshots(tmp_path)
    with store.turn(), pytest.raises(Conflict, match="being built"), store.turn():
        pass
    with store.turn():
        pass


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "can't be read"), (b'{"id": "x"}', "can't be read"), (b"\xff", "can't be read")],
)
def test_a_manifest_that_is_none_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    store, snapshot = Snapshots(tmp_path), manifest()
    keep(store, snapshot)
    (store.root / snapshot.id / "manifest.json").write_bytes(content)
    (stored,) = store.all()
    assert stored.id == snapshot.id
    assert stored.snapshot is None
    assert reason in (stored.why_not or "")


def test_parts_become_ours_readable_and_not_writable(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir(mode=0o700)
    (tmp_path / "inner" / "memory").write_bytes(b"abc")
    if os.geteuid() == 0:
        os.chown(tmp_path / "inner", 231_001, 231_001)
        os.chown(tmp_path / "inner" / "memory", 231_001, 231_001)
    (part,) = take_over(tmp_path)
    assert (part.name, part.size) == ("inner/memory", 3)
    found = (tmp_path / "inner" / "memory").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), 0o444)
    assert stat.S_IMODE((tmp_path / "inner").stat().st_mode) == 0o711


@pytest.mark.parametrize("kind", ["link", "directory", "pipe", "hard"])
def test_what_is_no_plain_file_is_not_taken(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir() if kind == "directory" else secret.touch(mode=0o600)
    (place := tmp_path / "place").mkdir()
    if kind == "pipe":
        os.mkfifo(place / "part")
    elif kind == "hard":
        (place / "part").hardlink_to(secret)
        place.chmod(0o777)  # another could have made it
    else:
        (place / "part").symlink_to(secret)
    with pytest.raises(InfrastructureError, match="can't be taken over"):
        take_over(place)
    assert stat.S_IMODE(secret.stat().st_mode) in (0o600, 0o755)
