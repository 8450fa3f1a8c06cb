"""`squib apply`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from squib.cli import bundle, connect, exits, git, options
from squib.cli.exits import Refused
from squib.cli.output import clean, say, say_json
from squib.client import Client
from squib.contracts.errors import NotFound
from squib.contracts.guest import WORK_REF
from squib.contracts.task import Task

_THEIRS = "refs/squib/result/"
#: How many of a shallow repository's newest commits are tried as the one that the task started from.
_STAND_INS = 100


@dataclass(frozen=True, slots=True)
class Result:
    """A task's commits, checked, in a repository of their own beside the user's objects."""

    bare: Path
    base: str
    tip: str


def apply(
    task: str,
    /,
    *,
    repo: Path = Path(),
    branch: str | None = None,
    force: bool = False,
    json: options.Json = False,
) -> int:
    """Bring a task's result into a local repository as a branch.

    Neither the work tree nor the current branch is touched: look at the branch, then merge it. Work that the agent
    left uncommitted is the branch's last commit.

    Args:
        task: The task's id.
        repo: The local repository that the task started from.
        branch: The branch's name; squib/TASK where absent.
        force: Move the branch where it is there already and holds something else.
        json: Print the branch, its commit and its base as JSON.
    """
    root = git.top(repo)
    with connect.client() as client, tempfile.TemporaryDirectory(prefix="squib-") as scratch:
        found = client.tasks.get(task)
        name = branch or f"squib/{found.id}"
        if git.ask(root, "check-ref-format", "--branch", name) != name:
            raise exits.Usage(f"--branch: {clean(name, lines=False)!r} is no valid name for a branch")
        result = _fetched(client, found, root, Path(scratch))
        _free(root, name, result.tip, force)
        outgoing = Path(scratch) / "apply.bundle"
        git.run(result.bare, "update-ref", f"refs/heads/{name}", result.tip, env=git.ALONE)
        git.run(
            result.bare,
            "bundle",
            "create",
            "--quiet",
            str(outgoing),
            f"refs/heads/{name}",
            f"^{result.base}",
            env=git.ALONE,
        )
        spec = f"+refs/heads/{name}:refs/heads/{name}"
        keep_out = (
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-prune",
            "--no-recurse-submodules",
            "--no-auto-gc",
        )
        git.run(root, "fetch", *keep_out, "--", str(outgoing), spec)
    if json:
        say_json({"repository": str(root), "branch": name, "commit": result.tip, "base": result.base})
    else:
        _tell(root, name, result.base)
    return exits.OK


def _fetched(client: Client, task: Task, root: Path, scratch: Path) -> Result:
    """Download and check the task's bundle. Raises Refused for what does not fit this repository."""
    if task.base_commit is None:
        advice = "'squib diff' shows it as a patch; 'git apply' takes that."
        raise Refused(
            f"{task.id} started from no repository: it has no history in common with this one", advice=advice
        )
    incoming = scratch / "result.bundle"
    try:
        with incoming.open("wb") as file:
            client.tasks.download(task.id, "bundle", file)
    except NotFound as error:
        advice = "Look at 'squib show'." if task.state.terminal else "Wait: the work is saved as it goes on."
        raise Refused(f"{task.id} has no commits to bring in", advice=advice) from error
    bare = git.new_bare(scratch / "bare", root)
    real = _started_from(root, bare, task.base_commit)
    git.run(bare, "update-ref", "refs/squib/base", task.base_commit, env=git.ALONE)
    quiet = ("--quiet", "--no-tags", "--no-write-fetch-head")
    try:
        git.run(bare, "fetch", *quiet, "--", str(incoming), f"+refs/*:{_THEIRS}*", env=git.ALONE)
    except git.GitError as error:
        advice = "Nothing was changed here; 'squib diff' still shows the patch."
        raise Refused(f"the task's bundle is not sound: {error.detail}", advice=advice) from error
    head = _ref(bare, f"heads/squib/{task.id}") or task.base_commit
    work = _ref(bare, WORK_REF.removeprefix("refs/"))
    if git.ask(bare, "merge-base", task.base_commit, head, env=git.ALONE) is None:
        advice = "'squib diff' shows it as a patch; 'git apply' takes that."
        raise Refused("the agent began a history of its own, with nothing in common with this one", advice=advice)
    tip = _with_work(bare, task, head, work) if work else head
    return Result(bare, real, _moved(bare, task.base_commit, real, tip) if real != task.base_commit else tip)


def _ref(bare: Path, name: str) -> str | None:
    return git.ask(bare, "rev-parse", "--verify", "--quiet", f"{_THEIRS}{name}^{{commit}}", env=git.ALONE)


def _started_from(root: Path, bare: Path, base: str) -> str:
    """The user's commit from which the task started. Of a shallow repository, a stand-in for it was sent."""
    if git.ask(root, "cat-file", "-e", f"{base}^{{commit}}") is not None:
        return base
    if git.text(root, "rev-parse", "--is-shallow-repository") == "true":
        apart = git.apart(bare, root)
        near = git.text(root, "rev-list", f"--max-count={_STAND_INS}", "HEAD", "--branches").split()
        for commit in near:
            if bundle.stand_in(root, commit, apart) == base:
                return commit
    advice = "Fetch that commit first, or name the repository that the task started from with --repo."
    raise Refused(f"{root} lacks commit {base[:12]}, from which the task started", advice=advice)


def _with_work(bare: Path, task: Task, head: str, work: str) -> str:
    """A commit of the work that the agent left uncommitted, with a message that says so."""
    message = f"Uncommitted work of {task.id}\n\nThe agent left this in its work tree."
    env = git.ALONE | git.AUTHOR | git.dated(bare, work)
    return git.text(bare, "commit-tree", f"{work}^{{tree}}", "-p", head, "-m", message, env=env)


def _moved(bare: Path, base: str, real: str, tip: str) -> str:
    """The commits from `base` to `tip`, made again on the user's own commit: only their parents differ."""
    new = {base: real}
    for commit in git.text(bare, "rev-list", "--reverse", "--topo-order", tip, f"^{base}", env=git.ALONE).split():
        header, blank, message = git.run(bare, "cat-file", "commit", commit, env=git.ALONE).partition(b"\n\n")
        lines = []
        for line in header.split(b"\n"):
            parent = line.removeprefix(b"parent ").decode("ascii", "replace")
            lines.append(b"parent " + new.get(parent, parent).encode() if line.startswith(b"parent ") else line)
        raw = b"\n".join(lines) + blank + message
        made = git.run(bare, "hash-object", "-t", "commit", "-w", "--stdin", stdin=raw, env=git.ALONE)
        new[commit] = made.decode().strip()
    return new[tip]


def _free(root: Path, name: str, tip: str, force: bool) -> None:
    """Refuse where the branch is checked out somewhere, or holds something else and is not to be moved."""
    there = git.ask(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}")
    if there == tip:
        return
    listed = git.text(root, "worktree", "list", "--porcelain").splitlines()
    if f"branch refs/heads/{name}" in listed:
        raise Refused(
            f"branch {name} is checked out", advice="Switch to another branch first, or name one with --branch."
        )
    if there is not None and not force:
        advice = "--force moves it there; --branch NAME makes another."
        raise Refused(f"branch {name} is there already and holds something else", advice=advice)


def _tell(root: Path, name: str, base: str) -> None:
    say(f"branch {name} in {root}:")
    for line in git.text(root, "log", "--no-color", "--format=%h %s", f"{base}..refs/heads/{name}").splitlines():
        say(f"  {clean(line, lines=False)}")
    stat = git.text(
        root, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--shortstat", base, f"refs/heads/{name}"
    )
    say(f"  {clean(stat, lines=False) or 'no change'}")
    say(f"git diff HEAD...{name}   shows it, 'git merge {name}' takes it in")
