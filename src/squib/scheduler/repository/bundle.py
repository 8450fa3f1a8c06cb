"""Read a git bundle's header, which a stranger wrote, and take its objects in only once they are checked."""

import asyncio
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from squib.contracts.errors import RepositoryError
from squib.scheduler.repository.git import HARMLESS, Git

_MAX_HEADER = 1024 * 1024
_MAX_REFS = 2000
_LINE = re.compile(rb"(-?)([0-9a-f]{40})(?: (.*))?")
#: Ref names that may become names of ours: no option, no reflog syntax, no parent directory, no blank.
_NAME = re.compile(
    r"refs/(?:heads|squib)/(?!.*(?:\.\.|//|/\.|\.lock(?:/|$)))[A-Za-z0-9_][A-Za-z0-9_.+#=/-]{0,200}(?<![./])"
)


@dataclass(frozen=True, slots=True)
class Header:
    """What a bundle says of itself. `refs` holds only names that are safe to use, and HEAD."""

    pack_offset: int
    needs: list[str] = field(default_factory=list)
    refs: dict[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """Parse it. Raises RepositoryError for what is no bundle, has too many refs, or is partial or not SHA-1."""
    with path.open("rb") as file:
        first = file.readline(64)
        if first not in (b"# v2 git bundle\n", b"# v3 git bundle\n"):
            raise RepositoryError("this is not a git bundle", advice="Make one with 'git bundle create'.")
        needs: list[str] = []
        refs: dict[str, str] = {}
        count = 0
        while (line := file.readline(4096)) != b"\n":
            count += 1
            if not line.endswith(b"\n") or count > _MAX_REFS or file.tell() > _MAX_HEADER:
                raise RepositoryError(f"the bundle's header is broken, or names more than {_MAX_REFS} refs")
            _take(line[:-1], needs, refs)
        return Header(file.tell(), needs, refs)


def _take(line: bytes, needs: list[str], refs: dict[str, str]) -> None:
    if line.startswith(b"@"):
        if line != b"@object-format=sha1":
            raise RepositoryError(
                "the bundle is partial or not SHA-1", advice="Send a full bundle of a SHA-1 repository."
            )
        return
    match = _LINE.fullmatch(line)
    if match is None:
        raise RepositoryError("the bundle's header is broken")
    commit = match[2].decode()
    name = (match[3] or b"").decode("utf-8", "replace")
    if match[1]:
        needs.append(commit)
    elif name == "HEAD" or _NAME.fullmatch(name):
        refs[name] = commit


async def ingest(git: Git, git_dir: Path, bundle: Path, *, max_bytes: int) -> Header:
    """Check every object of the bundle and add them to the repository; no ref is moved.

    `max_bytes` bounds the pack. Raises RepositoryError for a bundle that is broken, too large, whose prerequisites
    are absent, or whose objects git's fsck refuses.
    """
    header = await asyncio.to_thread(read_header, bundle)
    await _must_have(git, git_dir, header.needs)
    fd = os.open(bundle, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.lseek(fd, header.pack_offset, os.SEEK_SET)
        strict = "--strict=" + ",".join(f"{name}=ignore" for name in HARMLESS)
        await git.run(
            git_dir, "index-pack", "--stdin", "--fix-thin", strict, f"--max-input-size={max_bytes}", stdin=fd
        )
    finally:
        os.close(fd)
    if header.refs:
        tips = "".join(f"{commit}\n" for commit in header.refs.values()).encode()
        await git.run(git_dir, "rev-list", "--objects", "--quiet", "--stdin", "--not", "--all", stdin=tips)
    return header


async def _must_have(git: Git, git_dir: Path, commits: list[str]) -> None:
    for commit, kind in (await object_types(git, git_dir, commits)).items():
        if kind != "commit":
            raise RepositoryError(f"the bundle builds on the commit {commit}, which is not here")


async def object_types(git: Git, git_dir: Path, objects: list[str]) -> dict[str, str]:
    """The type of each object, "missing" for those that are not here. The names must be checked by the caller."""
    if not objects:
        return {}
    asked = "".join(f"{name}\n" for name in objects).encode()
    answer = await git.run(git_dir, "cat-file", "--batch-check=%(objecttype)", stdin=asked)
    kinds = [line.rsplit(" ", 1)[-1] for line in answer.decode("utf-8", "replace").splitlines()]
    return dict(zip(objects, kinds, strict=True))


async def has_commit(git: Git, git_dir: Path, commit: str) -> bool:
    """Whether the repository holds this commit."""
    return (await object_types(git, git_dir, [commit]))[commit] == "commit"
