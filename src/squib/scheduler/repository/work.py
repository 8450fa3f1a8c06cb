"""A task's own bare repository: where its work started, and what the sandbox has been saved as since."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.errors import RepositoryError, TooLarge
from squib.contracts.guest import EMPTY_TREE, WORK_REF, GitState
from squib.scheduler.repository.bundle import ingest, object_types
from squib.scheduler.repository.git import Git, GitFailed, is_commit

_BASE = "refs/squib/base"
_HEAD = "refs/squib/saved/head"
_WORK = "refs/squib/saved/work"


@dataclass(frozen=True, slots=True)
class Saved:
    """What is kept of a workspace: its last commit, the commit of what was uncommitted, and where it started."""

    head: str | None = None
    work: str | None = None
    base: str | None = None

    @property
    def tip(self) -> str | None:
        """The commit that holds everything."""
        return self.work or self.head

    @property
    def commits(self) -> list[str]:
        """Those that a sandbox need not send again."""
        return sorted({commit for commit in (self.head, self.work, self.base) if commit is not None})


class WorkRepository:
    """Bare, below squib's state; never a work tree. Everything in it came as a checked bundle or from the cache."""

    def __init__(self, path: Path, git: Git, *, max_bytes: int):
        self.path = path
        self._git = git
        self._max_bytes = max_bytes

    async def create(self) -> None:
        """Make it, or clear the one that is there of what a killed git left."""
        await self._git.init(self.path)

    async def seed_from(self, cache: Path, commit: str) -> None:
        """Take the cache's packs over as hard links: no copy, and no later dependence on the cache."""
        await self.create()
        await asyncio.to_thread(_link_packs, cache, self.path)
        await self._set({_BASE: commit})

    async def seed(self, bundle: Path, commit: str, base: str | None) -> None:
        """Take an upload in. Raises RepositoryError for a bundle that is not sound or lacks what it should hold."""
        await self.create()
        header = await ingest(self._git, self.path, bundle, max_bytes=self._max_bytes)
        if header.needs:
            raise RepositoryError("the upload is not complete: it builds on commits that it does not hold")
        await self._require(commit, *([base] if base else []))
        await self._set({_BASE: base or commit, "refs/squib/start": commit})

    async def take(self, bundle: Path | None, state: GitState) -> Saved:
        """Take in what a sandbox pushed; no bundle where all of it is here already.

        Raises RepositoryError for what is not sound, TooLarge over the bound.
        """
        await self.create()
        used = await asyncio.to_thread(_disk_usage, self.path)
        if used > self._max_bytes:
            raise TooLarge(f"the task's saved work takes more than {self._max_bytes} bytes")
        if bundle is not None:
            await ingest(self._git, self.path, bundle, max_bytes=self._max_bytes)
        await self._require(*[commit for commit in (state.head, state.work) if commit is not None])
        await self._set({_HEAD: state.head, _WORK: state.work})
        await self._git.tidy(self.path)
        return await self.saved()

    async def saved(self) -> Saved:
        """What was saved last; nothing where nothing was, or where there is no repository."""
        refs = await self._refs()
        return Saved(refs.get(_HEAD), refs.get(_WORK), refs.get(_BASE))

    async def bundle(self, target: Path, tips: dict[str, str], *, without: str | None = None) -> bool:
        """Write a bundle whose refs are `tips`; False where `without` holds all of it already."""
        wanted = {name: commit for name, commit in tips.items() if commit != without}
        if not wanted:
            return False
        await self._set(dict(wanted))
        excluded = [f"^{without}"] if without else []
        try:
            await self._git.run(self.path, "bundle", "create", "--quiet", str(target), *wanted, *excluded)
        except GitFailed as error:
            if "empty bundle" in error.detail:
                return False
            raise
        finally:
            await self._set(dict.fromkeys(wanted))
        return True

    async def patch(self, target: Path, base: str | None, tip: str) -> None:
        """Write the binary difference between two commits as git-apply takes it; from nothing without `base`."""
        options = ("--binary", "--full-index", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames")
        with target.open("wb") as file:
            await self._git.run(self.path, "diff-tree", "-p", *options, base or EMPTY_TREE, tip, stdout=file.fileno())

    async def remove(self) -> None:
        """Remove it all."""
        await asyncio.to_thread(shutil.rmtree, self.path, ignore_errors=True)

    async def _require(self, *commits: str) -> None:
        if not all(is_commit(commit) for commit in commits):
            raise RepositoryError("a commit id is not of 40 hexadecimal digits")
        for commit, kind in (await object_types(self._git, self.path, list(commits))).items():
            if kind != "commit":
                raise RepositoryError(f"the bundle does not hold the commit {commit}")

    async def _refs(self) -> dict[str, str]:
        if not await asyncio.to_thread((self.path / "HEAD").exists):
            return {}
        lines = await self._git.text(self.path, "for-each-ref", "--format=%(refname) %(objectname)", "refs/squib")
        return dict(line.split(" ", 1) for line in lines.splitlines())

    async def _set(self, refs: dict[str, str | None]) -> None:
        """Move refs in one transaction; None deletes. -z, so that no name can be taken for a command."""
        commands = (
            f"update {name}\0{commit}\0\0" if commit else f"delete {name}\0\0" for name, commit in refs.items()
        )
        await self._git.run(self.path, "update-ref", "--stdin", "-z", stdin="".join(commands).encode())


def work_tips(task_id: str, saved: Saved) -> dict[str, str]:
    """The refs of the bundle that is kept of a task: `squib/<task>` at its last commit, and its uncommitted work."""
    tips = {f"refs/heads/squib/{task_id}": saved.head, WORK_REF: saved.work}
    return {name: commit for name, commit in tips.items() if commit is not None}


def _link_packs(source: Path, target: Path) -> None:
    """Hard-link packs, their index last, because git looks for an index first."""
    packs = target / "objects" / "pack"
    packs.mkdir(parents=True, exist_ok=True)
    names = sorted((source / "objects" / "pack").glob("pack-*"), key=lambda path: path.suffix == ".idx")
    for path in names:
        if not (packs / path.name).exists():
            try:
                os.link(path, packs / path.name)
            except OSError:
                shutil.copy2(path, packs / path.name)


def _disk_usage(directory: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*") if path.lstat().st_nlink == 1)
