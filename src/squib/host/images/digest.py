"""The digest of a root file system's content: what two builds of the same input have in common."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from squib.host.images.inroot import opened
from squib.host.images.tidy import Entry, walk


@dataclass(frozen=True, slots=True)
class Content:
    """SHA-256 in hex, and bytes of all files."""

    digest: str
    size: int


def of_tree(path: Path) -> Content:
    """Over every entry's path, kind, mode, owner and content; not over times, which are all alike."""
    total, size = hashlib.sha256(), 0
    with opened(path) as root:
        for entry in walk(root):
            status = entry.status
            size += status.st_size if stat.S_ISREG(status.st_mode) else 0
            fields = (entry.path, f"{status.st_mode:o}", str(status.st_uid), str(status.st_gid), _content(entry))
            total.update("\0".join(fields).encode("utf-8", "surrogateescape") + b"\n")
    return Content(total.hexdigest(), size)


def _content(entry: Entry) -> str:
    if stat.S_ISLNK(entry.status.st_mode):
        return os.readlink(entry.name, dir_fd=entry.above)
    if not stat.S_ISREG(entry.status.st_mode):
        return ""
    with open(os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=entry.above), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_file(path: Path) -> str:
    """SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
