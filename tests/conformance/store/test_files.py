"""Uploads and artifacts: whole or not at all, replaced at once, removed by retention."""

import hashlib
import os
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from squib.contracts.errors import InvalidRequest, NotFound, StoreUnavailable, TooLarge
from squib.contracts.task import Repository
from tests.conformance.store.conftest import Desk

COMMIT = "0123456789abcdef0123456789abcdef01234567"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def broken() -> AsyncIterator[bytes]:
    yield b"half"
    raise ConnectionError("the sender has gone")


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@contextmanager
def full(size: int) -> Iterator[None]:
    """No file of this process may grow over so many bytes: the kernel refuses, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def age(root: Path) -> None:
    for path in files(root):
        os.utime(path, (0, 0))


async def test_an_upload_is_its_owners_alone(desk: Desk) -> None:
    data = [os.urandom(700_000), b"", os.urandom(700_000)]
    uploads = desk.store.uploads
    upload = await uploads.put(
        "usr-a", commit=COMMIT, base=COMMIT, branch="main", chunks=chunks(*data), max_bytes=1_400_000
    )
    again, path = await uploads.open(upload.id, "usr-a")
    assert again == upload and path.read_bytes() == b"".join(data)
    assert (upload.size, upload.sha256) == (1_400_000, hashlib.sha256(b"".join(data)).hexdigest())
    assert path.stat().st_mode & 0o077 == 0
    for stranger, wanted in (("usr-b", upload.id), ("usr-a", "upl-unknown"), ("usr-a", "../../etc/passwd")):
        with pytest.raises(NotFound):
            await uploads.open(wanted, stranger)


async def test_a_full_disk_is_the_stores_trouble_and_leaves_nothing(desk: Desk) -> None:
    lease = await desk.leased()
    big = bytes(3 * 1024 * 1024)
    with full(1024 * 1024):
        with pytest.raises(StoreUnavailable):
            await desk.store.uploads.put("usr-a", commit=COMMIT, chunks=chunks(big), max_bytes=len(big))
        with pytest.raises(StoreUnavailable):
            await desk.store.artifacts.put(lease.task_id, "patch", "text/x-diff", chunks(big))
    assert files(desk.files) == []
    await desk.store.artifacts.put(lease.task_id, "patch", "text/x-diff", chunks(big))


@pytest.mark.parametrize(
    "bad", [{"commit": "HEAD"}, {"commit": COMMIT[:-1]}, {"base": "x"}, {"branch": "-x"}, {"branch": "a..b"}]
)
async def test_a_bad_upload_leaves_nothing(desk: Desk, bad: dict) -> None:
    with pytest.raises(InvalidRequest):
        await desk.store.uploads.put("usr-a", **({"commit": COMMIT} | bad), chunks=chunks(b"x"), max_bytes=10)
    assert files(desk.files) == []


async def test_what_breaks_or_is_too_large_leaves_nothing(desk: Desk) -> None:
    lease = await desk.leased()
    with pytest.raises(TooLarge):
        await desk.store.uploads.put("usr-a", commit=COMMIT, chunks=chunks(b"x" * 6, b"x" * 6), max_bytes=10)
    with pytest.raises(ConnectionError):
        await desk.store.artifacts.put(lease.task_id, "patch", "text/x-diff", broken())
    for name, task_id, error in (
        ("../x", lease.task_id, InvalidRequest),
        ("patch", "../x", NotFound),
        ("patch", "task-00000000000000000000000000", NotFound),
    ):
        with pytest.raises(error):
            await desk.store.artifacts.put(task_id, name, "text/x-diff", chunks(b"x"))
    assert files(desk.files) == [] and await desk.store.artifacts.list(lease.task_id) == []


async def test_an_artifact_is_replaced_whole(desk: Desk) -> None:
    lease = await desk.leased()
    artifacts = desk.store.artifacts
    await artifacts.put(lease.task_id, "patch", "text/x-diff", chunks(b"one"))
    _, first = await artifacts.open(lease.task_id, "patch")
    second = await artifacts.put(lease.task_id, "patch", "text/x-diff", chunks(b"", b"two", b"!"))
    assert first.read_bytes() == b"one"  # whoever has just looked it up still gets it whole
    shown, path = await artifacts.open(lease.task_id, "patch")
    assert shown == second and path.read_bytes() == b"two!"
    await artifacts.put(lease.task_id, "patch", "text/x-diff", chunks(b"three"))
    await artifacts.put(lease.task_id, "bundle", "application/x-git-bundle", chunks(b"four"))
    assert not first.exists() and [a.name for a in await artifacts.list(lease.task_id)] == ["bundle", "patch"]
    with pytest.raises(NotFound):
        await artifacts.open(lease.task_id, "workspace")


async def test_retention_removes_what_ended_before(desk: Desk) -> None:
    ended, live = await desk.running(), await desk.running()
    for lease in (ended, live):
        await desk.store.artifacts.put(lease.task_id, "patch", "text/x-diff", chunks(b"x"))
    await desk.end(ended)
    assert await desk.store.artifacts.prune(time.time() - 60) == 0
    assert await desk.store.artifacts.prune(time.time() + 60) == 1
    assert await desk.store.artifacts.list(ended.task_id) == []
    _, path = await desk.store.artifacts.open(live.task_id, "patch")
    assert files(desk.files) == [path]


async def test_an_upload_is_kept_for_the_task_that_waits_for_it(desk: Desk) -> None:
    kept, gone = [
        await desk.store.uploads.put("usr-a", commit=COMMIT, chunks=chunks(b"x"), max_bytes=10) for _ in range(2)
    ]
    await desk.task(repository=Repository(upload=kept.id))
    assert await desk.store.uploads.prune(time.time() + 60) == 1
    _, path = await desk.store.uploads.open(kept.id, "usr-a")
    assert files(desk.files) == [path]
    with pytest.raises(NotFound):
        await desk.store.uploads.open(gone.id, "usr-a")


async def test_what_a_crash_left_is_collected_but_not_what_is_on_its_way(desk: Desk) -> None:
    lease = await desk.leased()
    await desk.store.artifacts.put(lease.task_id, "patch", "text/x-diff", chunks(b"kept"))
    await desk.store.uploads.put("usr-a", commit=COMMIT, chunks=chunks(b"kept"), max_bytes=10)
    kept = set(files(desk.files))
    for orphan in (f"artifacts/{lease.task_id}/patch.0", f"artifacts/{lease.task_id}/.a.tmp", "uploads/upl-1.bundle"):
        (desk.files / orphan).write_bytes(b"orphan")
    for prune in (desk.store.artifacts.prune, desk.store.uploads.prune):
        await prune(0.0)
    assert len(files(desk.files)) == len(kept) + 3
    age(desk.files)
    for prune in (desk.store.artifacts.prune, desk.store.uploads.prune):
        await prune(0.0)
    assert set(files(desk.files)) == kept
