"""Files below the workspace: written by way of a new file beside them, and listed without following a link."""

import contextlib
import os
import stat
from collections.abc import Iterator

from squib.contracts.errors import SquibError
from squib.contracts.guest import FileEntry, FileList
from squib.guest.confine import Root, clean, explain

MAX_ENTRIES = 10_000
_MODES = 0o7777


class Replacement:
    """A new file beside `name` in the open `directory`; `commit` puts it in place, `close` removes what is not."""

    def __init__(self, directory: int, name: str, mode: int):
        self._directory, self._name, self._mode = directory, name, mode
        self._temporary = f".squib-{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(self._temporary, flags, 0o600, dir_fd=directory)

    def write(self, data: bytes) -> None:
        """Add bytes. Raises OSError."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    def commit(self) -> os.stat_result:
        """Put it in place of what is there; a link there is replaced, not followed. Raises OSError."""
        os.fchmod(self.fd, self._mode)
        os.rename(self._temporary, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._temporary = ""
        return os.fstat(self.fd)

    def __enter__(self) -> "Replacement":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        if self._temporary:
            os.unlink(self._temporary, dir_fd=self._directory)


def replace_file(directory: int, name: str, content: bytes, mode: int) -> None:
    """Write a whole small file. Raises OSError."""
    with Replacement(directory, name, mode) as new:
        new.write(content)
        new.commit()


def present_mode(directory: int, name: str) -> int:
    """The mode that a file written here keeps: that of the one there is, else 0644."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return 0o644
    return stat.S_IMODE(found.st_mode) & 0o777 if stat.S_ISREG(found.st_mode) else 0o644


def entry(path: str, found: os.stat_result) -> FileEntry:
    """A file as the listing shows it: what is no UTF-8 in its name appears as U+FFFD."""
    path = os.fsencode(path).decode("utf-8", "replace")
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    kind = kinds.get(stat.S_IFMT(found.st_mode), "other")
    return FileEntry(path, kind, found.st_size, found.st_mode & _MODES, found.st_mtime)


def listing(root: Root, path: str, depth: int) -> FileList:
    """What lies below `path`, `depth` levels deep, in order of path; for a file that is no directory, itself.

    Raises the contract's errors.
    """
    plain = clean(path)
    fd = root.open(plain, os.O_PATH)
    try:
        found = os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISDIR(found.st_mode):
        return FileList([entry(plain, found)])
    entries: list[FileEntry] = []
    for each in _walk(root, "" if plain == "." else plain + "/", plain, depth):
        if len(entries) == MAX_ENTRIES:
            return FileList(sorted(entries, key=lambda e: e.path), truncated=True)
        entries.append(each)
    return FileList(sorted(entries, key=lambda e: e.path))


def _walk(root: Root, prefix: str, path: str, depth: int) -> Iterator[FileEntry]:
    fd = root.open_directory(path)
    inner: list[str] = []
    try:
        with os.scandir(fd) as entries:
            for item in entries:
                try:
                    found = item.stat(follow_symlinks=False)
                except OSError:
                    continue  # gone meanwhile
                name = os.fsencode(item.name).decode("utf-8", "replace")
                yield entry(prefix + name, found)
                if stat.S_ISDIR(found.st_mode) and name == item.name:
                    inner.append(name)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        os.close(fd)
    if depth > 1:
        for name in sorted(inner):
            with contextlib.suppress(SquibError):  # gone meanwhile, or closed to us: it is listed, not entered
                yield from _walk(root, f"{prefix}{name}/", f"{prefix}{name}", depth - 1)
