import os
import shutil
from pathlib import Path

import pytest

from squib.contracts.errors import RepositoryError, SquibError
from squib.contracts.guest import GitState
from squib.scheduler.repository.bundle import read_header
from squib.scheduler.repository.git import Git
from squib.scheduler.repository.work import WorkRepository, work_tips
from tests.scheduler.gitserver import commit, git, make_repository

pytestmark = pytest.mark.needs("git")
_TASK = "task-01jd0000000000000000000000"


@pytest.fixture
def user(tmp_path: Path) -> Path:
    make_repository(tmp_path / "user", {"README": "hello\n", "src/a.py": "A = 1\n"})
    return tmp_path / "user"


@pytest.fixture
def work(tmp_path: Path) -> WorkRepository:
    return WorkRepository(tmp_path / "task.git", Git(seconds=30), max_bytes=50_000_000)


def bundle(repository: Path, target: Path, *what: str) -> Path:
    git(repository, "bundle", "create", "-q", str(target), *what)
    return target


def uncommitted(repository: Path) -> str:
    """A commit of the work tree as it is, whose parent is HEAD, on no branch: as a guest or a client makes it."""
    index = {"GIT_INDEX_FILE": str(repository / ".git" / "squib-index")}
    git(repository, "add", "-A", **index)
    tree = git(repository, "write-tree", **index)
    made = git(repository, "commit-tree", tree, "-p", "HEAD", "-m", "work")
    git(repository, "update-ref", "refs/squib/work", made)
    return made


async def seeded(user: Path, work: WorkRepository, tmp_path: Path) -> str:
    base = git(user, "rev-parse", "HEAD")
    await work.seed(bundle(user, tmp_path / "up.bundle", "main"), base, None)
    return base


async def save(user: Path, work: WorkRepository, tmp_path: Path) -> GitState:
    head = git(user, "rev-parse", "HEAD")
    made = uncommitted(user)
    without = [f"^{known}" for known in (await work.saved()).commits]
    target = bundle(user, tmp_path / "save.bundle", "main", "refs/squib/work", *without)
    state = GitState(head=head, branch="main", work=made)
    await work.take(target, state)
    return state


async def test_a_save_holds_commits_and_what_was_uncommitted(
    user: Path, work: WorkRepository, tmp_path: Path
) -> None:
    base = await seeded(user, work, tmp_path)
    commit(user, {"b": "b\n"}, "second")
    (user / "c").write_text("uncommitted\n")
    state = await save(user, work, tmp_path)
    saved = await work.saved()
    assert (saved.head, saved.work, saved.base) == (state.head, state.work, base)
    assert await work.bundle(tmp_path / "out.bundle", {"refs/heads/main": state.work or ""})
    git(tmp_path, "clone", "-q", str(tmp_path / "out.bundle"), "copy", "-b", "main")
    assert (tmp_path / "copy" / "c").read_text() == "uncommitted\n"


async def test_a_clean_save_forgets_the_uncommitted_work_before_it(
    user: Path, work: WorkRepository, tmp_path: Path
) -> None:
    await seeded(user, work, tmp_path)
    head = commit(user, {"b": "b\n"}, "second")
    clean = GitState(head=head, branch="main", work=None)
    await work.take(bundle(user, tmp_path / "save.bundle", "main"), clean)
    assert (await work.saved()).work is None
    (user / "c").write_text("uncommitted\n")
    await save(user, work, tmp_path)
    assert (await work.saved()).work is not None
    head = commit(user, {}, "third")
    await work.take(bundle(user, tmp_path / "save.bundle", "main"), GitState(head=head, branch="main", work=None))
    assert ((await work.saved()).head, (await work.saved()).work) == (head, None)


async def test_the_patch_applies_to_the_base_and_gives_the_work(
    user: Path, work: WorkRepository, tmp_path: Path
) -> None:
    base = await seeded(user, work, tmp_path)
    (user / "binary").write_bytes(os.urandom(5000))
    (user / "README").write_text("changed\n")
    (user / "src" / "a.py").unlink()
    (user / "run").write_text("#!/bin/sh\n")
    (user / "run").chmod(0o755)
    (user / "link").symlink_to("README")
    state = await save(user, work, tmp_path)
    await work.patch(tmp_path / "patch", base, state.work or "")
    git(tmp_path, "clone", "-q", str(user), "copy")
    git(tmp_path / "copy", "checkout", "-q", base)
    git(tmp_path / "copy", "apply", "--index", str(tmp_path / "patch"))
    assert git(tmp_path / "copy", "write-tree") == git(user, "rev-parse", "refs/squib/work^{tree}")


async def test_a_patch_from_nothing_holds_everything(user: Path, work: WorkRepository, tmp_path: Path) -> None:
    state = await save(user, work, tmp_path)
    await work.patch(tmp_path / "patch", None, state.work or "")
    make_repository(tmp_path / "empty", {})
    git(tmp_path / "empty", "apply", "--index", str(tmp_path / "patch"))
    assert (tmp_path / "empty" / "src" / "a.py").read_text() == "A = 1\n"


async def test_the_kept_bundle_builds_on_the_base_alone(user: Path, work: WorkRepository, tmp_path: Path) -> None:
    base = await seeded(user, work, tmp_path)
    git(tmp_path, "clone", "-q", str(user), "theirs")
    commit(user, {"b": "b\n"}, "second")
    state = await save(user, work, tmp_path)
    assert await work.bundle(tmp_path / "kept", work_tips(_TASK, await work.saved()), without=base)
    git(tmp_path / "theirs", "fetch", "-q", str(tmp_path / "kept"), f"refs/heads/squib/{_TASK}:refs/heads/result")
    assert git(tmp_path / "theirs", "rev-parse", "result") == state.head
    assert read_header(tmp_path / "kept").needs == [base]


async def test_nothing_done_is_no_bundle(user: Path, work: WorkRepository, tmp_path: Path) -> None:
    base = await seeded(user, work, tmp_path)
    assert not await work.bundle(tmp_path / "kept", {f"refs/heads/squib/{_TASK}": base}, without=base)


async def test_an_upload_with_uncommitted_changes_starts_at_the_real_tip(
    user: Path, work: WorkRepository, tmp_path: Path
) -> None:
    base = git(user, "rev-parse", "HEAD")
    (user / "draft").write_text("not yet\n")
    made = uncommitted(user)
    await work.seed(bundle(user, tmp_path / "up.bundle", "main", "refs/squib/work"), made, base)
    assert (await work.saved()).base == base


async def test_a_seed_from_the_cache_outlives_the_cache(user: Path, work: WorkRepository, tmp_path: Path) -> None:
    base = git(user, "rev-parse", "HEAD")
    plain = Git()
    await plain.init(tmp_path / "cache.git")
    await WorkRepository(tmp_path / "cache.git", plain, max_bytes=10**9).seed(
        bundle(user, tmp_path / "up.bundle", "main"), base, None
    )
    await work.seed_from(tmp_path / "cache.git", base)
    shutil.rmtree(tmp_path / "cache.git")
    assert await work.bundle(tmp_path / "out.bundle", {"refs/heads/main": base})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing of the kind",
        b"# v2 git bundle\n",
        b"# v2 git bundle\n\n",
        b"# v3 git bundle\n@filter=blob:none\n\n",
    ],
)
async def test_what_is_no_sound_bundle_is_refused(work: WorkRepository, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(RepositoryError):
        await work.seed(tmp_path / "bad", "0" * 39 + "1", None)


async def test_a_corrupt_object_is_refused(user: Path, work: WorkRepository, tmp_path: Path) -> None:
    good = bundle(user, tmp_path / "up.bundle", "main").read_bytes()
    (tmp_path / "bad").write_bytes(good[:-40] + bytes(b ^ 0x55 for b in good[-40:-20]) + good[-20:])
    with pytest.raises(RepositoryError):
        await work.seed(tmp_path / "bad", git(user, "rev-parse", "HEAD"), None)


async def test_a_bundle_without_the_commit_that_it_should_hold_is_refused(
    user: Path, work: WorkRepository, tmp_path: Path
) -> None:
    with pytest.raises(RepositoryError, match="does not hold"):
        await work.seed(bundle(user, tmp_path / "up.bundle", "main"), "0" * 39 + "1", None)


async def test_an_incomplete_upload_is_refused(user: Path, work: WorkRepository, tmp_path: Path) -> None:
    first = git(user, "rev-parse", "HEAD")
    second = commit(user, {"b": "b\n"}, "second")
    with pytest.raises(RepositoryError, match="is not here"):
        await work.seed(bundle(user, tmp_path / "up.bundle", "main", f"^{first}"), second, None)


async def test_a_tree_that_fsck_refuses_does_not_come_in(user: Path, work: WorkRepository, tmp_path: Path) -> None:
    blob = git(user, "rev-parse", "HEAD:README")
    entry = b"100644 .git\0" + bytes.fromhex(blob)
    tree = git(user, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=entry)
    evil = git(user, "commit-tree", tree, "-m", "evil")
    git(user, "update-ref", "refs/heads/evil", evil)
    with pytest.raises(RepositoryError):
        await work.seed(bundle(user, tmp_path / "up.bundle", "evil"), evil, None)
    assert (await work.saved()).base is None


async def test_hooks_filters_and_submodules_of_a_stranger_run_nothing(
    user: Path, work: WorkRepository, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    base = await seeded(user, work, tmp_path)
    commit(
        user,
        {
            ".gitattributes": "* filter=evil diff=evil\n",
            ".gitmodules": f'[submodule "m"]\n\tpath = m\n\turl = "ext::sh -c touch% {ran}"\n',
            ".gitconfig": f'[diff "evil"]\n\ttextconv = touch {ran};\n\tcommand = touch {ran};\n',
            "README": "changed\n",
        },
        "evil",
    )
    (user / "up").symlink_to("../../../../etc/passwd")
    state = await save(user, work, tmp_path)
    await work.patch(tmp_path / "patch", base, state.work or "")
    assert await work.bundle(tmp_path / "kept", work_tips(_TASK, await work.saved()), without=base)
    assert not ran.exists()
    patch = (tmp_path / "patch").read_text()
    assert "+changed" in patch
    assert "root:" not in patch


async def test_a_bundle_over_the_bound_is_refused(user: Path, tmp_path: Path) -> None:
    (user / "large").write_bytes(os.urandom(300_000))
    git(user, "add", "-A")
    git(user, "commit", "-q", "-m", "large")
    small = WorkRepository(tmp_path / "small.git", Git(), max_bytes=100_000)
    with pytest.raises(SquibError):
        await small.seed(bundle(user, tmp_path / "up.bundle", "main"), git(user, "rev-parse", "HEAD"), None)


async def test_names_that_could_be_options_or_paths_are_never_refs_of_ours(
    user: Path, work: WorkRepository, tmp_path: Path
) -> None:
    head = git(user, "rev-parse", "HEAD")
    good = bundle(user, tmp_path / "up.bundle", "main").read_bytes()
    pack = good[good.index(b"\n\nPACK") + 1 :]
    names = ["refs/heads/../../../x", "--upload-pack=touch", "refs/heads/a b", "refs/heads/x.lock", "refs/heads/ok"]
    lines = "".join(f"{head} {name}\n" for name in names).encode()
    (tmp_path / "odd").write_bytes(b"# v2 git bundle\n" + lines + pack)
    assert read_header(tmp_path / "odd").refs == {"refs/heads/ok": head}
    await work.seed(tmp_path / "odd", head, None)
    assert (await work.saved()).base == head


async def test_many_saves_do_not_leave_many_packs(user: Path, work: WorkRepository, tmp_path: Path) -> None:
    base = await seeded(user, work, tmp_path)
    for n in range(45):
        (user / "c").write_text(f"{n}\n")
        state = await save(user, work, tmp_path)
    assert len(list(work.path.glob("objects/pack/*.pack"))) < 10
    await work.patch(tmp_path / "patch", base, state.work or "")
    assert "+44" in (tmp_path / "patch").read_text()
