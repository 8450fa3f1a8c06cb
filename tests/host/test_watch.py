import asyncio
import errno
from pathlib import Path

import pytest

from squib.host import watch


async def test_a_name_that_is_there_is_seen_at_once(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    async with asyncio.timeout(5):
        await watch.appears(tmp_path / "dangling")


async def test_a_name_is_seen_when_it_appears_and_others_do_not_count(tmp_path: Path) -> None:
    waiting = asyncio.create_task(watch.appears(tmp_path / "wanted"))
    await asyncio.sleep(0)
    (tmp_path / "other").touch()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    (tmp_path / "draft").touch()
    (tmp_path / "draft").rename(tmp_path / "wanted")
    async with asyncio.timeout(5):
        await waiting


async def test_a_directory_that_is_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        await watch.appears(tmp_path / "absent" / "name")
    assert caught.value.errno == errno.ENOENT
