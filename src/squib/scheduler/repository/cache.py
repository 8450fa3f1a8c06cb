"""A bare cache for each URL: fetched with a lock, bounded in time and size, healed when a fetch was killed."""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from squib.contracts.errors import RepositoryError
from squib.contracts.task import Repository
from squib.scheduler.repository.bundle import has_commit
from squib.scheduler.repository.git import Git, GitFailed, is_commit

_REMOTE_LINE = re.compile(r"([0-9a-f]{40})\t(\S+)")
_HEAD_LINE = re.compile(r"ref: refs/heads/(\S+)\tHEAD")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a ref meant when it was fetched: `git_dir` holds `commit`; `branch` where the ref was one."""

    git_dir: Path
    commit: str
    branch: str | None


class RepositoryCache:
    """One bare repository a URL below `directory`. No credential is ever used: what it holds is public."""

    def __init__(self, directory: Path, git: Git):
        self._directory = directory
        self._git = git
        self._locks: dict[str, asyncio.Lock] = {}

    async def fetch(self, repository: Repository) -> Fetched:
        """Bring in the ref (or the remote's HEAD). Raises RepositoryError with git's own reason."""
        url, ref = _checked(repository.url or ""), repository.ref
        git_dir = self.path(url)
        async with self._locked(url, git_dir):
            await self._git.init(git_dir)
            fetched = await self._fetch(git_dir, url, ref)
            await self._git.tidy(git_dir)
            await asyncio.to_thread(os.utime, git_dir)
            return fetched

    def path(self, url: str) -> Path:
        """Where the cache of this URL lies."""
        return self._directory / f"{hashlib.sha256(url.encode()).hexdigest()[:40]}.git"

    async def prune(self, older_than: float) -> int:
        """Remove the caches that nobody has fetched since this time (seconds since 1970); say how many."""
        removed = 0
        for git_dir in await asyncio.to_thread(lambda: list(self._directory.glob("*.git"))):
            if git_dir.stat().st_mtime < older_than:
                async with self._file_lock(git_dir):
                    await asyncio.to_thread(shutil.rmtree, git_dir, ignore_errors=True)
                removed += 1
        return removed

    async def _fetch(self, git_dir: Path, url: str, ref: str | None) -> Fetched:
        if is_commit(ref) and ref is not None:
            if not await has_commit(self._git, git_dir, ref):
                await self._fetch_commit(git_dir, url, ref)
            return Fetched(git_dir, ref, None)
        name, tip, branch = await self._resolve(git_dir, url, ref)
        local = f"refs/squib/{name}"
        if not await has_commit(self._git, git_dir, tip) or not await self._is(git_dir, local, tip):
            await self._fetch_refs(git_dir, url, f"+{name}:{local}")
        commit = await self._git.text(git_dir, "rev-parse", "--verify", "--end-of-options", f"{local}^{{commit}}")
        return Fetched(git_dir, commit, branch)

    async def _is(self, git_dir: Path, ref: str, commit: str) -> bool:
        with contextlib.suppress(GitFailed):
            return await self._git.text(git_dir, "rev-parse", "--verify", "--quiet", ref) == commit
        return False

    async def _resolve(self, git_dir: Path, url: str, ref: str | None) -> tuple[str, str, str | None]:
        """Ask the remote: the full name of the ref, the object that it names, the branch where it is one."""
        wanted = ["HEAD"] if ref is None else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
        answer = await self._git.run(git_dir, "ls-remote", "--symref", "--", url, *wanted, network=True)
        lines = answer.decode("utf-8", "replace").splitlines()
        tips = {match[2]: match[1] for line in lines if (match := _REMOTE_LINE.fullmatch(line))}
        heads = [match[1] for line in lines if (match := _HEAD_LINE.fullmatch(line))]
        for name in wanted:
            if name in tips:
                return name, tips[name], ref if name.startswith("refs/heads/") else next(iter(heads), None)
        if ref is None:
            raise RepositoryError(f"{url} has no commit yet", advice="Push a first commit, or name a ref.")
        raise RepositoryError(
            f"{url} has no branch or tag {ref!r}", advice="Name a branch, a tag or a full commit id."
        )

    async def _fetch_commit(self, git_dir: Path, url: str, commit: str) -> None:
        """Many servers hand out a commit by its id; with the others it must be on a branch or a tag."""
        try:
            await self._fetch_refs(git_dir, url, f"+{commit}:refs/squib/commits/{commit}")
        except GitFailed:
            await self._fetch_refs(git_dir, url, "+refs/heads/*:refs/squib/refs/heads/*")
        if not await has_commit(self._git, git_dir, commit):
            raise RepositoryError(f"{url} has no commit {commit}", advice="Check the id: it must be on a branch.")

    async def _fetch_refs(self, git_dir: Path, url: str, refspec: str) -> None:
        options = (
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
        )
        await self._git.run(git_dir, "fetch", *options, "--", url, refspec, network=True)

    @contextlib.asynccontextmanager
    async def _locked(self, url: str, git_dir: Path) -> AsyncIterator[None]:
        async with self._locks.setdefault(url, asyncio.Lock()), self._file_lock(git_dir):
            yield

    @contextlib.asynccontextmanager
    async def _file_lock(self, git_dir: Path) -> AsyncIterator[None]:
        """Between processes: a kernel lock, which a killed one lets go of."""
        await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True)
        fd = os.open(git_dir.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            deadline = time.monotonic() + self._git.seconds
            while not _try_lock(fd):
                if time.monotonic() > deadline:
                    raise RepositoryError("another fetch of this repository does not end", advice="Try again later.")
                await asyncio.sleep(0.1)
            yield
        finally:
            os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _checked(url: str) -> str:
    """Refuse what must not become an argument or be kept: a password above all."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise RepositoryError("this is not a URL that can be fetched") from None
    if parts.username is not None or parts.password is not None:
        raise RepositoryError("the URL holds a user name or a password", advice="Give a URL without credentials.")
    if not url.isprintable() or " " in url or not (parts.hostname or parts.scheme == "file"):
        raise RepositoryError("this is not a URL that can be fetched")
    return url
