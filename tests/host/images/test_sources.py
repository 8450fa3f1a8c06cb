from pathlib import Path

import pytest

from squib.contracts.errors import ImageError
from squib.host.images import sources

DEB822 = """# a comment
Types: deb
URIs: mirror/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: mirror/security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb-src
URIs: mirror/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: mirror/off
Suites: bookworm
Components: main

Types: deb
URIs: mirror/other
Suites: nodistro
Components: main
"""
LINES = """# deb mirror/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] mirror/lines bookworm-backports main
deb-src mirror/lines bookworm main
deb mirror/lines trixie main
"""


def machine(etc: Path) -> Path:
    (etc / "sources.list.d").mkdir(parents=True)
    (etc / "sources.list.d" / "debian.sources").write_text(DEB822)
    (etc / "sources.list.d" / "more.list.disabled").write_text("deb mirror/disabled bookworm main\n")
    (etc / "sources.list").write_text(LINES)
    return etc


def test_only_entries_of_the_suite_are_taken(tmp_path: Path) -> None:
    found = sources.find("bookworm", None, tmp_path, machine(tmp_path / "etc"))
    text = "".join(Path(path).read_text() for path in found)
    assert [name in text for name in ("mirror/debian", "mirror/security", "mirror/lines")] == [True] * 3
    assert [name in text for name in ("deb-src", "mirror/off", "mirror/other", "disabled", "trixie")] == [False] * 5
    assert "Signed-By: /usr/share/keyrings/debian.gpg" in text


def test_one_suite_is_not_another_with_the_same_beginning(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as refused:
        sources.find("book", None, tmp_path, machine(tmp_path / "etc"))
    assert "SQUIB_IMAGES__APT_SOURCES" in refused.value.advice


def test_a_named_file_is_taken_as_it_is(tmp_path: Path) -> None:
    named = tmp_path / "mine.list"
    with pytest.raises(ImageError, match="which is no file"):
        sources.find("bookworm", named, tmp_path)
    named.write_text("deb mirror/mine bookworm main\n")
    assert sources.find("bookworm", named, tmp_path) == [str(named)]
