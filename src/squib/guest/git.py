"""git in the workspace: how it is called, and where the repository stands.

It runs inside the sandbox, where the repository is the agent's and its hooks and filters do no more than the agent
can. It must not hang, though: no prompt, no pager, no editor, and a time limit on each call.
"""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squib.contracts.errors import Conflict, NoRepository, RepositoryError, SquibError
from squib.contracts.guest import WORK_REF, GitState
from squib.guest import environment
from squib.guest.capture import capture

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

SECONDS = 300.0
#: Where HEAD is when it is on no branch, so that a bundle can name it and `refs/*` fetches it.
HEAD_REF = "refs/squib/head"
_LIMIT = 16 * 1024 * 1024
#: Nothing asks, nothing waits, nobody's configuration of the system matters, and any owner's repository is ours.
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "GIT_EDITOR": "/bin/true",
    "GIT_PAGER": "cat",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CEILING_DIRECTORIES": "/",
    "GIT_CONFIG_COUNT": "6",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_CONFIG_KEY_1": "core.fsmonitor",
    "GIT_CONFIG_VALUE_1": "false",
    "GIT_CONFIG_KEY_2": "gc.auto",
    "GIT_CONFIG_VALUE_2": "0",
    "GIT_CONFIG_KEY_3": "advice.addEmbeddedRepo",
    "GIT_CONFIG_VALUE_3": "false",
    "GIT_CONFIG_KEY_4": "core.quotePath",
    "GIT_CONFIG_VALUE_4": "false",
    "GIT_CONFIG_KEY_5": "core.hooksPath",
    "GIT_CONFIG_VALUE_5": "/dev/null",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call of git gave."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Its standard output, without the newline at the end."""
        return self.out.decode("utf-8", "replace").rstrip("\n")


async def git(
    guest: "Supervisor",
    *args: str,
    stdin: bytes = b"",
    stdout: int | None = None,
    env: dict[str, str] | None = None,
    check: bool = True,
) -> Answer:
    """Run git in the workspace. Raises RepositoryError where it fails (unless not `check`) or takes too long."""
    environ = environment.build(guest.config, "git", _ENVIRONMENT, env or {})
    try:
        ended, out, err = await capture(
            guest.children,
            ["git", *args],
            env=environ,
            cwd=guest.workspace.fd,
            seconds=SECONDS,
            limit=_LIMIT,
            stdin=stdin,
            stdout=stdout,
        )
    except OSError as error:
        raise SquibError(f"git cannot be started in the sandbox: {error.strerror or error}") from error
    if ended.timed_out:
        raise RepositoryError(f"git {args[0]} took longer than {SECONDS:g} s")
    if out.truncated:
        raise RepositoryError(f"git {args[0]} gave more than {_LIMIT} bytes")
    if check and ended.code != 0:
        raise RepositoryError(f"git {args[0]}: {err.text.strip()[-500:] or f'exit status {ended.code}'}")
    return Answer(ended.code, out.content, err.text)


def has_repository(guest: "Supervisor") -> bool:
    """Whether the workspace itself, not a directory above it, holds a repository."""
    try:
        os.close(guest.workspace.open(".git", os.O_PATH))
    except SquibError:
        return False
    return True


def require_repository(guest: "Supervisor") -> None:
    """Raise NoRepository where there is none."""
    if not has_repository(guest):
        raise NoRepository("the workspace is no git repository")


async def head(guest: "Supervisor") -> str | None:
    """The commit that HEAD names; None where it is unborn."""
    answer = await git(guest, "rev-parse", "--verify", "--quiet", "HEAD^{commit}", check=False)
    return answer.text if answer.code == 0 and answer.text else None


async def branch(guest: "Supervisor") -> str | None:
    """The branch that HEAD is on; None where it is detached."""
    answer = await git(guest, "symbolic-ref", "--quiet", "--short", "HEAD", check=False)
    return answer.text if answer.code == 0 else None


async def new_commits(guest: "Supervisor", before: str | None, now: str, most: int) -> list[tuple[str, str]]:
    """The commits of `now` that `before` does not have, oldest first: at most `most`, with their subjects."""
    ranges = [now] if before is None else [now, f"^{before}"]
    answer = await git(guest, "log", f"--max-count={most}", "--format=%H%x00%s", *ranges, "--", check=False)
    if answer.code != 0:  # `before` is gone: the branch was replaced by another
        answer = await git(guest, "log", "--max-count=1", "--format=%H%x00%s", now, "--", check=False)
    pairs = [line.partition("\0") for line in answer.text.splitlines()]
    return [(commit, subject[:1000]) for commit, _, subject in reversed(pairs) if commit]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The repository and its work tree at one moment."""

    state: GitState
    tree: str  # of everything in the work tree


async def snapshot(guest: "Supervisor") -> Snapshot:
    """Look at HEAD, the branches and the work tree.

    The work tree is read through an index of the guest's own, which stays from call to call, so that an unchanged
    file is not read again and the agent's index is not touched. Raises NoRepository or RepositoryError.
    """
    require_repository(guest)
    commit = await head(guest)
    tree = await _work_tree(guest)
    clean = tree == (await _tree_of(guest, commit))
    work = None if clean else await _commit_work(guest, tree, commit)
    refs = await git(guest, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads")
    name = await branch(guest)
    told = "\n".join((commit or "", name or "", tree, refs.text))
    return Snapshot(GitState(commit, name, work, hashlib.sha256(told.encode()).hexdigest()), tree)


async def keep(guest: "Supervisor", state: GitState) -> None:
    """Put `refs/squib/work` where something is uncommitted, `refs/squib/head` where HEAD is detached; else remove."""
    await _point(guest, WORK_REF, state.work)
    await _point(guest, HEAD_REF, state.head if state.branch is None else None)


async def _point(guest: "Supervisor", ref: str, commit: str | None) -> None:
    """Put a ref of squib's own at the commit; remove it for None."""
    if commit is not None:
        await git(guest, "update-ref", ref, commit)
    else:
        await git(guest, "update-ref", "-d", ref, check=False)


async def _work_tree(guest: "Supervisor") -> str:
    env = {"GIT_INDEX_FILE": f"{guest.config.state_dir}/work.index"}
    with contextlib.suppress(FileNotFoundError):  # of a git that was killed: this index has one user at a time
        os.unlink(f"{guest.config.state_dir}/work.index.lock")  # noqa: PTH108
    excluded: list[str] = []
    for _ in range(20):
        added = await git(guest, "add", "--all", "--ignore-errors", "--", ".", *excluded, env=env, check=False)
        nested = _nested_without_commit(added.err)
        if added.code == 0 or not nested:
            break
        excluded += [f":(exclude,literal){path}" for path in nested]
    if added.code == 128:  # a filter that fails, say: what the index holds now would be passed off as the work tree
        raise RepositoryError(f"git add: {added.err.strip()[-500:]}")
    # What is tracked although a .gitignore names it: `add` passes it over, for our index does not know it.
    ignored = await git(guest, "ls-files", "-z", "--cached", "--ignored", "--exclude-standard", check=False)
    if ignored.out:
        await git(guest, "update-index", "--add", "--remove", "-z", "--stdin", stdin=ignored.out, env=env)
    return (await git(guest, "write-tree", env=env)).text


def _nested_without_commit(message: str) -> list[str]:
    """The repositories within the repository that have no commit yet: git refuses to add those."""
    marks = ("error: '", "' does not have a commit checked out")
    lines = [line for line in message.splitlines() if line.startswith(marks[0]) and line.endswith(marks[1])]
    return [line[len(marks[0]) : -len(marks[1])].rstrip("/") for line in lines]


async def _tree_of(guest: "Supervisor", commit: str | None) -> str:
    if commit is None:
        return (await git(guest, "mktree")).text  # the empty tree, in this repository's own hash
    return (await git(guest, "rev-parse", "--verify", f"{commit}^{{tree}}")).text


async def _commit_work(guest: "Supervisor", tree: str, parent: str | None) -> str:
    """A commit of the tree: the same one each time, so that what has not changed is not new."""
    moment = "946684800"
    if parent is not None:
        moment = (await git(guest, "show", "--no-patch", "--format=%ct", parent)).text.splitlines()[-1]
    env = {"GIT_AUTHOR_DATE": f"@{moment} +0000", "GIT_COMMITTER_DATE": f"@{moment} +0000"}
    parents = [] if parent is None else ["-p", parent]
    return (await git(guest, "commit-tree", tree, *parents, "-m", "uncommitted changes", env=env)).text


async def commit_all(guest: "Supervisor", message: str, author: str, email: str) -> None:
    """Commit everything in the work tree; nothing where nothing has changed. Raises NoRepository, Conflict, …"""
    require_repository(guest)
    added = await git(guest, "add", "--all", "--ignore-errors", check=False)
    if added.code != 0 and not _nested_without_commit(added.err):
        raise Conflict(f"git add: {added.err.strip()[-500:]}")
    staged = await git(guest, "diff", "--cached", "--quiet", check=False)
    if staged.code == 0:
        return
    env = {"GIT_AUTHOR_NAME": author, "GIT_AUTHOR_EMAIL": email}
    await git(
        guest,
        "commit",
        "--quiet",
        "--no-verify",
        "--no-gpg-sign",
        "--cleanup=verbatim",
        "--file=-",
        stdin=message.encode(),
        env=env,
    )


async def existing(guest: "Supervisor", commits: Sequence[str]) -> list[str]:
    """Those of the commits that the repository has."""
    if not commits:
        return []
    asked = "".join(f"{commit}\n" for commit in commits).encode()
    answer = await git(guest, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked)
    return [line.split()[0] for line in answer.text.splitlines() if line.endswith(" commit")]
