"""Repositories that would like to run something outside, with real isolation around the agent."""

from pathlib import Path

import pytest

from squib.contracts.task import Repository, TaskState
from tests.scheduler.gitserver import GitServer, commit, git, make_repository
from tests.scheduler.stack import stack

pytestmark = pytest.mark.needs("git", "openssl", "bwrap")


def _traps(ran: Path) -> dict[str, str]:
    return {
        ".gitattributes": "* filter=evil diff=evil merge=evil\n",
        ".gitmodules": f'[submodule "m"]\n\tpath = m\n\turl = "ext::sh -c touch% {ran}"\n',
        "README": "hello\n",
    }


async def test_a_repository_over_https_comes_in_and_its_traps_do_not_spring(
    git_server: GitServer, shared_tmp: Path, tmp_path: Path
) -> None:
    """The agent sets every trap that git knows in its own repository, and a link out; a save and a patch follow."""
    ran = shared_tmp / "ran"
    origin = git_server.root / "project"
    make_repository(origin, _traps(ran))
    base = commit(origin, {"src/a.py": "A = 1\n"}, "second")
    evil = (
        f"git config filter.evil.clean 'touch {ran}; cat'; git config filter.evil.smudge 'touch {ran}; cat'; "
        f"git config diff.evil.command 'touch {ran}'; "
        f"git config diff.evil.textconv 'touch {ran}; cat'; git config core.fsmonitor 'touch {ran}'; "
        f"git config core.sshCommand 'touch {ran}'; git config core.hooksPath .git/hooks; mkdir -p .git/hooks; "
        f"for h in post-checkout pre-push reference-transaction post-index-change; do "
        f"printf '#!/bin/sh\\ntouch {ran}\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done; "
        "ln -s /etc/passwd stolen; ln -s ../../../../../../etc up; echo changed > README; git log --format=%s | wc -l"
    )
    async with stack(shared_tmp, driver="bubblewrap", git_ca_info=git_server.ca) as squib:
        squib.start()
        url = f"{git_server.url}/project/.git"
        task_id = await squib.submit(f"Set traps.\nmock:run={evil}", repository=Repository(url=url))
        task = await squib.ended(task_id)
        assert task.state is TaskState.SUCCEEDED, task.error
        assert task.base_commit == base
        types = await squib.types(task_id)
        assert types.index("git.cloned") < types.index("agent.started")
        patch = (await squib.artifact(task_id, "patch")).read_bytes()
        assert b"root:" not in patch
        assert b"new file mode 120000" in patch
        git(tmp_path, "clone", "-q", str(origin), "copy")
        git(tmp_path / "copy", "apply", "--index", str(await squib.artifact(task_id, "patch")))
        assert (tmp_path / "copy" / "README").read_text() == "changed\n"
        assert (tmp_path / "copy" / "stolen").is_symlink()
        git(
            tmp_path / "copy",
            "fetch",
            "-q",
            str(await squib.artifact(task_id, "bundle")),
            f"refs/heads/squib/{task_id}",
        )
        assert git(tmp_path / "copy", "rev-parse", "FETCH_HEAD") == task.head_commit
        await squib.clean(task_id)
    assert not ran.exists()


async def test_a_repository_that_can_not_be_fetched_fails_the_task_with_gits_reason(
    git_server: GitServer, shared_tmp: Path
) -> None:
    make_repository(git_server.root / "project", {"README": "hello\n"})
    async with stack(shared_tmp, git_ca_info=git_server.ca) as squib:
        squib.start()
        for url, ref in ((f"{git_server.url}/absent/.git", None), (f"{git_server.url}/project/.git", "nowhere")):
            task = await squib.ended(await squib.submit("Look.", repository=Repository(url=url, ref=ref)))
            assert (task.state, task.attempt) == (TaskState.FAILED, 1)
            assert task.error is not None
            assert task.error["code"] == "repository"
            await squib.clean(task.id)


@pytest.mark.parametrize(
    "damage",
    [
        "rm -rf .git/objects",
        "echo '* filter=x' > .gitattributes; git config filter.x.process false",
    ],
)
async def test_a_repository_made_unusable_by_the_agent_fails_no_task(shared_tmp: Path, damage: str) -> None:
    """What can't be saved is told; the workspace is kept all the same."""
    async with stack(shared_tmp, driver="bubblewrap") as squib:
        squib.start()
        task_id = await squib.submit(f"Break it.\nmock:run={damage}; echo kept > file")
        task = await squib.ended(task_id)
        assert task.state is TaskState.SUCCEEDED, task.error
        kept = {artifact.name for artifact in await squib.store.artifacts.list(task_id)}
        assert kept >= {"workspace", "transcript"}
        told = [e for e in await squib.events(task_id) if e.type == "runtime.log" and e.data["level"] == "warning"]
        assert told
        await squib.clean(task_id)
