import os
from pathlib import Path

import pytest

from squib.host.snapshots import digest


def of(path: Path) -> str:
    with path.open("rb") as file:
        return digest.of(file)


def test_holes_count_as_the_zeros_that_they_are(tmp_path: Path) -> None:
    (tmp_path / "written").write_bytes(bytes(3 * digest.BLOCK) + b"x" * 5000 + bytes(2 * digest.BLOCK))
    with (tmp_path / "holes").open("wb") as file:
        file.seek(3 * digest.BLOCK)
        file.write(b"x" * 5000)
        file.truncate((tmp_path / "written").stat().st_size)
    assert of(tmp_path / "holes") == of(tmp_path / "written")


@pytest.mark.parametrize(
    ("offset", "content"), [(0, b"x"), (digest.BLOCK - 1, b"x"), (5 * digest.BLOCK, b"x"), (77, b"\0")]
)
def test_every_byte_and_its_place_count(tmp_path: Path, offset: int, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(2 * digest.BLOCK) + os.urandom(100) + bytes(4 * digest.BLOCK))
    with path.open("r+b") as file:
        file.seek(77)
        file.write(b"y")
    before = of(path)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)
    assert of(path) != before


def test_nothing_has_a_digest_too(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "zeros").write_bytes(bytes(digest.BLOCK + 1))
    assert of(tmp_path / "empty") == of(tmp_path / "zeros"), "the size is told apart from it"
