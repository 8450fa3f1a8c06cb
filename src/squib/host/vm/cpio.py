"""Archives that the kernel unpacks into its first root file system (cpio's `newc` form): the same bytes each time."""

import stat
from collections.abc import Iterable
from dataclasses import dataclass

_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory, file or link of root's; `mode` has the kind in it, `content` is a link's target."""

    path: str  # without a slash before
    mode: int
    content: bytes = b""


def directory(path: str) -> Entry:
    """A directory that all may read."""
    return Entry(path, stat.S_IFDIR | 0o755)


def file(path: str, content: bytes, *, executable: bool = False) -> Entry:
    """A file that all may read."""
    return Entry(path, stat.S_IFREG | (0o755 if executable else 0o644), content)


def archive(entries: Iterable[Entry]) -> bytes:
    """The whole archive, padded so that another one may follow it."""
    made = bytearray()
    for number, entry in enumerate((*entries, Entry(_TRAILER, 0)), start=1):
        name = entry.path.encode() + b"\0"
        fields = (number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, 0, 0, len(name), 0)
        made += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        made += bytes(-len(made) % 4)
        made += entry.content
        made += bytes(-len(made) % 4)
    return bytes(made) + bytes(-len(made) % 512)
