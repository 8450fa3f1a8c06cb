"""The repository: in as a bundle, out as a bundle, and nothing of the agent's disturbed meanwhile."""

import os
import subprocess
from pathlib import Path

import pytest

from squib.contracts.errors import InvalidRequest, NoRepository, RepositoryError
from squib.contracts.guest import WORK_REF, CommitRequest, GitState, PushRequest
from tests.conformance.guest.conftest import Guest

_WHO = {f"GIT_{role}_{what}": "t@t" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(where: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", *args], cwd=where, env={**_WHO, "PATH": os.environ["PATH"], "HOME": str(where)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


class Origin:
    """A repository on the host: two commits, a second branch, and a commit of uncommitted changes."""

    def __init__(self, path: Path):
        path.mkdir()
        self.path = path
        git(path, "init", "-q", "-b", "trunk")
        (path / "a.txt").write_text("one\n")
        git(path, "add", ".")
        git(path, "commit", "-qm", "first")
        self.first = git(path, "rev-parse", "HEAD")
        (path / "a.txt").write_text("two\n")
        git(path, "commit", "-qam", "second")
        self.tip = git(path, "rev-parse", "HEAD")
        git(path, "branch", "other", self.first)
        git(path, "tag", "v1", self.first)
        (path / "a.txt").write_text("three\n")
        (path / "new.txt").write_text("new\n")
        git(path, "add", "-A")
        self.dirty = git(path, "commit-tree", git(path, "write-tree"), "-p", self.tip, "-m", "uncommitted")
        git(path, "update-ref", "refs/squib/upload", self.dirty)
        self.bundle = path.parent / "in.bundle"
        git(path, "bundle", "create", "-q", str(self.bundle), "--all")


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A bare repository on the host that takes bundles in."""
    path = tmp_path / "store.git"
    path.mkdir()
    git(path, "init", "-q", "--bare")
    return path


async def _push(guest: Guest, store: Path, have: list[str], unless: str | None = None) -> GitState | None:
    bundle = store / "out.bundle"
    bundle.unlink(missing_ok=True)
    state = await guest.link.push(PushRequest(have, unless), bundle)
    if bundle.exists():
        git(store, "fetch", "-q", str(bundle), "+refs/*:refs/in/*")
    return state


async def test_clone(guest: Guest, origin: Origin) -> None:
    state = await guest.link.clone(origin.bundle, commit=origin.tip, branch="trunk")
    assert (state.head, state.branch, state.work) == (origin.tip, "trunk", None)
    assert await guest.out("cat a.txt; git status --porcelain; git log --format=%s") == "two\nsecond\nfirst\n"
    assert "origin/other" in await guest.out("git branch -r")
    assert "v1" in await guest.out("git tag")


@pytest.mark.parametrize(
    "left",
    [
        "mkdir .git",
        "mkdir -p .git/objects .git/refs; : > .git/config.lock",
        "git init -q; rm .git/HEAD",
        "git init -q -b trunk; mkdir -p .git/refs/heads; cd .git; touch HEAD.lock index.lock refs/heads/trunk.lock",
    ],
)
async def test_a_clone_that_was_broken_off_is_made_whole(guest: Guest, origin: Origin, left: str) -> None:
    await guest.out(left)
    state = await guest.link.clone(origin.bundle, commit=origin.tip, branch="trunk")
    assert (state.head, state.branch, state.work) == (origin.tip, "trunk", None)
    assert await guest.out("git fsck --no-dangling; git log --format=%s") == "second\nfirst\n"


async def test_clone_with_uncommitted_changes(guest: Guest, origin: Origin) -> None:
    state = await guest.link.clone(origin.bundle, commit=origin.dirty, reset=origin.tip, branch="trunk")
    assert (state.head, state.branch) == (origin.tip, "trunk")
    assert state.work is not None
    assert await guest.out("git status --porcelain") == " M a.txt\n?? new.txt\n"


async def test_clone_twice_is_once(guest: Guest, origin: Origin) -> None:
    first = await guest.link.clone(origin.bundle, commit=origin.dirty, reset=origin.tip)
    assert first.branch == "main"
    await guest.out("echo more > more.txt; git add -A; git commit -qm more")
    second = await guest.link.clone(origin.bundle, commit=origin.dirty, reset=origin.tip)
    assert second.head not in (first.head, None)
    assert await guest.out("cat more.txt") == "more\n"


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("commit", {"commit": "HEAD"}),
        ("commit", {"commit": "0" * 40}),
        ("reset", {"reset": "--hard"}),
        ("branch", {"branch": "-x"}),
        ("branch", {"branch": "a..b"}),
        ("branch", {"branch": "@{-1}"}),
    ],
)
async def test_clone_refuses(guest: Guest, origin: Origin, field: str, changed: dict[str, str]) -> None:
    with pytest.raises((InvalidRequest, RepositoryError)) as caught:
        await guest.link.clone(origin.bundle, **{"commit": origin.tip, **changed})
    assert field in caught.value.fields


async def test_rubbish_is_no_bundle(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"# v2 git bundle\nrubbish" * 1000)
    with pytest.raises(RepositoryError):
        await guest.link.clone(tmp_path / "x", commit="1" * 40)


async def test_without_a_repository(guest: Guest, tmp_path: Path) -> None:
    with pytest.raises(NoRepository):
        await guest.link.commit(CommitRequest("x"))
    with pytest.raises(NoRepository):
        await guest.link.push(PushRequest(), tmp_path / "out")
    with pytest.raises(NoRepository):
        await guest.link.diff(None)


async def test_commit(guest: Guest) -> None:
    await guest.out("git init -q -b main .; echo x > x; mkdir d; echo y > d/y")
    state = await guest.link.commit(CommitRequest("all of it\n\n# kept", "Ada", "ada@example.org"))
    assert state.work is None
    shown = await guest.out("git log --format='%an|%ae|%cn|%B'; git ls-files")
    assert shown == "Ada|ada@example.org|squib|all of it\n\n# kept\nd/y\nx\n"
    again = await guest.link.commit(CommitRequest("nothing"))
    assert again == state


async def test_push_brings_work_out(guest: Guest, origin: Origin, store: Path) -> None:
    await guest.link.clone(origin.bundle, commit=origin.tip, branch="trunk")
    await guest.out(
        "echo c > c; git add c; git commit -qm third; echo more >> a.txt; echo u > untracked; git branch side"
    )
    index = await guest.out("git ls-files --stage | sha256sum")
    state = await _push(guest, store, [])
    assert state is not None and state.work is not None
    assert await guest.out("git ls-files --stage | sha256sum") == index
    assert git(store, "show", f"{state.work}:untracked") == "u"
    assert git(store, "rev-parse", f"{state.work}^") == state.head
    assert git(store, "rev-parse", "refs/in/heads/side", "refs/in/heads/trunk") == f"{state.head}\n{state.head}"
    assert git(store, "rev-parse", f"refs/in/{WORK_REF[5:]}") == state.work
    git(store, "fsck", "--strict")


async def test_push_only_what_is_new(guest: Guest, origin: Origin, store: Path) -> None:
    git(store, "fetch", "-q", str(origin.path), "+refs/heads/*:refs/heads/*")
    await guest.link.clone(origin.bundle, commit=origin.tip, branch="trunk")
    first = await _push(guest, store, [origin.tip])
    assert first is not None and not (store / "out.bundle").exists()
    assert await _push(guest, store, [origin.tip], first.digest) is None
    await guest.out("echo u > untracked")
    second = await _push(guest, store, [origin.tip], first.digest)
    assert second is not None and second.work is not None and second.digest != first.digest
    assert await _push(guest, store, [origin.tip], second.digest) is None
    await guest.out("git add -A; git commit -qm done")
    third = await _push(guest, store, [origin.tip, second.work], second.digest)
    assert third is not None and third.work is None
    assert git(store, "log", "--format=%s", third.head or "") == "done\nsecond\nfirst"
    await guest.out("git checkout -q -b elsewhere")
    fourth = await _push(guest, store, [third.head or ""], third.digest)
    assert fourth is not None and fourth.branch == "elsewhere"


async def test_push_ignores_commits_that_are_unknown(guest: Guest, origin: Origin, store: Path) -> None:
    await guest.link.clone(origin.bundle, commit=origin.tip)
    state = await _push(guest, store, ["1" * 40])
    assert state is not None and git(store, "rev-parse", "refs/in/heads/main") == state.head


async def test_tracked_although_ignored(guest: Guest, store: Path) -> None:
    await guest.out(
        "git init -q -b main .; echo 'x*' > .gitignore; echo 1 > x1; echo 2 > x2; echo 3 > x3;"
        "git add -f .gitignore x1 x2; git commit -qm first"
    )
    first = await _push(guest, store, [])
    assert first is not None and first.work is None
    await guest.out("echo changed > x1; rm x2; echo 4 > x4; git add -f x4")
    second = await _push(guest, store, [], first.digest)
    assert second is not None and second.work is not None
    assert git(store, "ls-tree", "--name-only", second.work).split() == [".gitignore", "x1", "x4"]
    assert git(store, "show", f"{second.work}:x1") == "changed"


async def test_signing_is_not_tried(guest: Guest) -> None:
    await guest.out("git init -q .; git config commit.gpgsign true; git config gpg.program 'sleep 1000'; echo > x")
    assert (await guest.link.commit(CommitRequest("unsigned"))).head is not None


async def test_unborn(guest: Guest, store: Path) -> None:
    await guest.out("git init -q -b main .")
    empty = await _push(guest, store, [])
    assert empty is not None and (empty.head, empty.branch, empty.work) == (None, "main", None)
    await guest.out("echo x > x")
    state = await _push(guest, store, [], empty.digest)
    assert state is not None and state.head is None and state.work is not None
    assert git(store, "show", f"{state.work}:x") == "x"
    assert "+x" in (await guest.link.diff(None)).decode()


async def test_detached(guest: Guest, origin: Origin, store: Path) -> None:
    git(store, "fetch", "-q", str(origin.path), "+refs/heads/*:refs/heads/*")
    await guest.link.clone(origin.bundle, commit=origin.tip)
    await guest.out("git checkout -q --detach; echo d > d; git add d; git commit -qm detached")
    state = await _push(guest, store, [origin.tip])
    assert state is not None and state.branch is None
    assert git(store, "cat-file", "-t", state.head or "") == "commit"


async def test_repositories_within(guest: Guest, store: Path) -> None:
    await guest.out(
        "git init -q -b main .; echo x > x; git init -q empty; echo e > empty/e;"
        "git init -q full; cd full; echo f > f; git add f; git commit -qm inner"
    )
    state = await _push(guest, store, [])
    assert state is not None and git(store, "show", f"{state.work}:x") == "x"
    done = await guest.link.commit(CommitRequest("outer"))
    assert done.head is not None
    assert "x" in await guest.out("git ls-files")
    assert (await guest.link.diff(done.head)) == b""


async def test_diff(guest: Guest, origin: Origin) -> None:
    await guest.link.clone(origin.bundle, commit=origin.tip)
    await guest.out(
        "echo four > a.txt; printf '\\000\\001' > bin; echo u > ü; git add bin; echo 'a.txt diff=x' > .gitattributes"
    )
    text = (await guest.link.diff(None)).decode()
    assert "-two\n+four" in text and "GIT binary patch" in text and "b/ü" in text
    whole = (await guest.link.diff(origin.first)).decode()
    assert "-one\n+four" in whole
    for base in ("HEAD", "0" * 40, "--output=x"):
        with pytest.raises((InvalidRequest, RepositoryError)):
            await guest.link.diff(base)


async def test_hooks_and_filters_do_not_hang(guest: Guest, origin: Origin) -> None:
    await guest.link.clone(origin.bundle, commit=origin.tip)
    await guest.out(
        "mkdir -p .git/hooks; cd .git/hooks; printf '#!/bin/sh\\nsleep 1000\\n' > pre-commit; chmod +x pre-commit;"
        "cd ../..;"
        "git config core.fsmonitor 'sleep 1000'; git config core.editor 'sleep 1000'; echo x > x"
    )
    assert (await guest.link.commit(CommitRequest("hooked"))).work is None


async def test_a_lock_that_is_left_is_told(guest: Guest, origin: Origin) -> None:
    await guest.link.clone(origin.bundle, commit=origin.tip)
    await guest.out("touch .git/index.lock; echo x > x")
    with pytest.raises(Exception, match=r"index\.lock"):
        await guest.link.commit(CommitRequest("locked"))


async def test_a_commit_is_told_while_the_agent_works(guest: Guest) -> None:
    run_id = await guest.start("mock:run=echo 1 > one; git add one; git commit -qm 'one done'; sleep 0.1")
    _, events = await guest.finished(run_id)
    told = [e.data["subject"] for e in events if e.type == "git.commit"]
    assert "one done" in told and len(told) == 2
