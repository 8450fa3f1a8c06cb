"""`squib apply` with real git on both sides; the bundles are made as the scheduler makes them."""

import subprocess
from pathlib import Path

import pytest

from squib.cli import bundle, exits
from squib.contracts.guest import WORK_REF
from squib.contracts.task import TaskState
from tests.cli.conftest import Repo


async def finished(
    backend, agent: Repo, base: str | None, head: str, work: str | None = None, thin: bool = True
) -> str:
    """A task that ended with this, kept as a bundle."""
    lease = await backend.running()
    agent.git("update-ref", f"refs/heads/squib/{lease.task_id}", head)
    tips = [f"refs/heads/squib/{lease.task_id}"]
    if work:
        agent.git("update-ref", WORK_REF, work)
        tips.append(WORK_REF)
    agent.git("bundle", "create", "-q", "../kept.bundle", *tips, *([f"^{base}"] if thin and base else []))

    async def content():
        yield (agent.path.parent / "kept.bundle").read_bytes()

    await backend.store.artifacts.put(lease.task_id, "bundle", "application/x-git-bundle", content())
    await backend.store.tasks.update(lease, base_commit=base, head_commit=head)
    await backend.store.tasks.transition(lease, TaskState.SUCCEEDED, {}, result="done")
    return lease.task_id


@pytest.fixture
def agent(repo, tmp_path) -> Repo:
    """The agent's own copy, with one more commit."""
    path = tmp_path / "agent"
    subprocess.run(["git", "clone", "-q", str(repo.path), str(path)], check=True, capture_output=True)
    made = Repo(path)
    made.git("config", "user.name", "An Agent")
    made.git("config", "user.email", "agent@localhost")
    made.commit("three", c="3\n")
    return made


@pytest.fixture
def base(repo) -> str:
    return repo.git("rev-parse", "HEAD")


async def test_commits_and_uncommitted_work_become_a_branch_and_nothing_else_changes(
    squib, backend, repo, agent, base
):
    head = agent.git("rev-parse", "HEAD")
    work = agent.commit("work", d="4\n")
    agent.git("reset", "-q", "--hard", head)
    task = await finished(backend, agent, base, head, work)
    (repo.path / "a").write_text("mine\n")
    (repo.path / ".git" / "hooks" / "reference-transaction").write_text("#!/bin/sh\nexit 1\n")
    (repo.path / ".git" / "hooks" / "reference-transaction").chmod(0o755)
    before = [repo.git("status", "--porcelain"), repo.git("rev-parse", "HEAD"), repo.git("for-each-ref")]
    done = await squib("apply", task, "--repo", str(repo.path))
    assert done.code == exits.OK, done.err
    branch = f"squib/{task}"
    assert repo.git("log", "--format=%s", branch).splitlines() == [
        f"Uncommitted work of {task}",
        "three",
        "two",
        "one",
    ]
    assert repo.git("show", f"{branch}:d") == "4"
    after = [repo.git("status", "--porcelain"), repo.git("rev-parse", "HEAD"), repo.git("for-each-ref")]
    assert after[:2] == before[:2]
    assert [line for line in after[2].splitlines() if branch not in line] == before[2].splitlines()
    assert not (repo.path / ".git" / "FETCH_HEAD").exists()
    assert (await squib("apply", task, "--repo", str(repo.path))).code == exits.OK


async def test_a_branch_that_holds_something_else_is_left_unless_forced(squib, backend, repo, agent, base):
    task = await finished(backend, agent, base, agent.git("rev-parse", "HEAD"))
    repo.git("branch", f"squib/{task}", "HEAD~1")
    done = await squib("apply", task, "--repo", str(repo.path))
    assert done.code == exits.REFUSED
    assert "--force" in done.err
    assert repo.git("rev-parse", f"squib/{task}") == repo.git("rev-parse", "HEAD~1")
    assert (await squib("apply", task, "--repo", str(repo.path), "--branch", "other")).code == exits.OK
    assert (await squib("apply", task, "--repo", str(repo.path), "--force")).code == exits.OK
    assert repo.git("rev-parse", f"squib/{task}") == repo.git("rev-parse", "other")
    repo.git("switch", "-q", f"squib/{task}")
    repo.git("reset", "-q", "--hard", "HEAD~1")
    done = await squib("apply", task, "--repo", str(repo.path), "--force")
    assert done.code == exits.REFUSED
    assert "checked out" in done.err


async def test_what_does_not_fit_is_refused(squib, backend, repo, agent, base, tmp_path):
    task = await finished(backend, agent, base, agent.git("rev-parse", "HEAD"))
    assert "no git repository" in (await squib("apply", task, "--repo", str(tmp_path))).err
    other = Repo(tmp_path / "other")
    other.path.mkdir()
    other.git("init", "-q")
    done = await squib("apply", task, "--repo", str(other.path))
    assert done.code == exits.REFUSED
    assert f"lacks commit {base[:12]}" in done.err
    for name in ("--output=x", "a..b", "/x"):
        assert (await squib("apply", task, "--repo", str(repo.path), f"--branch={name}")).code == exits.USAGE


async def test_unrelated_histories_are_refused(squib, backend, repo, agent, base):
    agent.git("switch", "-q", "--orphan", "new")
    head = agent.commit("begun anew", x="1")
    task = await finished(backend, agent, base, head, thin=False)
    done = await squib("apply", task, "--repo", str(repo.path))
    assert done.code == exits.REFUSED
    assert "nothing in common" in done.err
    task = await finished(backend, agent, None, head)
    assert "nothing in common" in done.err
    assert (await squib("apply", task, "--repo", str(repo.path))).code == exits.REFUSED


async def test_a_task_that_has_kept_nothing_and_a_bundle_that_is_not_sound(squib, backend, repo, agent, base):
    lease = await backend.running()
    await backend.store.tasks.update(lease, base_commit=base)
    done = await squib("apply", lease.task_id, "--repo", str(repo.path))
    assert done.code == exits.REFUSED
    assert "Wait" in done.err
    task = await finished(backend, agent, base, agent.git("rev-parse", "HEAD"))

    async def spoilt():
        yield (agent.path.parent / "kept.bundle").read_bytes()[:-30] + b"x" * 30

    await backend.store.artifacts.put(task, "bundle", "application/x-git-bundle", spoilt())
    refs = repo.git("for-each-ref")
    done = await squib("apply", task, "--repo", str(repo.path))
    assert done.code == exits.REFUSED
    assert "not sound" in done.err
    assert repo.git("for-each-ref") == refs


async def test_a_shallow_repository_gets_the_commits_on_its_own_commit(squib, backend, repo, tmp_path):
    shallow = Repo(tmp_path / "shallow")
    url = f"file://{repo.path}"
    repo.git("clone", "-q", "--depth=1", url, str(shallow.path))
    agent = Repo(tmp_path / "agent")
    with bundle.made(shallow.path) as sent:
        repo.git("clone", "-q", str(sent.path), str(agent.path))
        base = sent.commit
    agent.git("config", "user.name", "An Agent")
    agent.git("config", "user.email", "agent@localhost")
    agent.git("checkout", "-q", base)
    task = await finished(backend, agent, base, agent.commit("three", c="3\n"))
    done = await squib("apply", task, "--repo", str(shallow.path), "--json")
    assert done.code == exits.OK, done.err
    assert done.json["base"] == shallow.git("rev-parse", "HEAD")
    assert shallow.git("log", "--format=%s %an", f"squib/{task}").splitlines() == ["three An Agent", "two A User"]
    assert Path(shallow.path / "c").exists() is False
    shallow.git("fsck", "--strict")
