"""A local repository as one git bundle: HEAD's history and, as one commit on top, what is uncommitted.

Nothing of the user's is written: index, objects and refs that this needs lie in a temporary directory. Nothing else
of the disk is read: git alone decides what belongs to the repository, and a symbolic link is sent as a link.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from squib.cli import git
from squib.cli.exits import Refused

#: The branch that the bundle carries; where the upload names no branch of the user's.
_REF = "refs/heads/squib-upload"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What to upload. `commit` is checked out; `base`, where it holds uncommitted changes, is the branch's tip."""

    path: Path
    commit: str
    base: str | None
    branch: str | None
    uncommitted: int  # files
    shallow: bool

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size


@contextlib.contextmanager
def made(directory: Path, ref: str | None = None) -> Iterator[Bundle]:
    """Bundle the repository of `directory`; the file is gone at the end.

    With `ref`, that commit alone is sent and uncommitted changes are left out. Raises GitError or Refused.
    """
    root = git.top(directory)
    with tempfile.TemporaryDirectory(prefix="squib-") as name:
        yield _make(root, Path(name), ref)


def _make(root: Path, scratch: Path, ref: str | None) -> Bundle:
    if git.text(root, "rev-parse", "--show-object-format") != "sha1":
        raise Refused(f"{root} is a SHA-256 repository, which can't be sent", advice="Send a SHA-1 copy of it.")
    bare = git.new_bare(scratch / "bare", root)
    apart = git.apart(bare, root)
    tip = git.ask(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref or 'HEAD'}^{{commit}}")
    if ref and tip is None:
        raise git.GitError(f"{ref!r} names no commit in {root}", advice="'git branch -a' and 'git tag' list names.")
    branch = _branch(root, ref)
    shallow = git.text(root, "rev-parse", "--is-shallow-repository") == "true"
    base = stand_in(root, tip, apart) if shallow and tip else tip
    commit, uncommitted = base, 0
    if ref is None and git.text(root, "rev-parse", "--is-bare-repository") == "false":
        commit, uncommitted = _with_changes(root, scratch, base, apart)
    if commit is None:
        raise Refused(f"{root} holds nothing yet", advice="Add a file, or leave --repo out to start from nothing.")
    path = scratch / "upload.bundle"
    git.run(bare, "update-ref", _REF, commit, env=git.ALONE)
    try:
        git.run(bare, "bundle", "create", "--quiet", str(path), _REF, env=git.ALONE)
    except git.GitError as error:
        if git.ask(root, "config", "--get-regexp", r"^remote\..*\.promisor$") is None:
            raise
        advice = "Fetch it whole: git config --unset remote.origin.partialclonefilter && git fetch --refetch"
        raise Refused(f"{root} is a partial clone that lacks objects of its history", advice=advice) from error
    return Bundle(path, commit, base if commit != base else None, branch, uncommitted, shallow)


def _branch(root: Path, ref: str | None) -> str | None:
    """The branch that the work starts from, if it is one."""
    if ref is None:
        return git.ask(root, "symbolic-ref", "--quiet", "--short", "HEAD")
    return ref if git.ask(root, "show-ref", "--verify", "--quiet", f"refs/heads/{ref}") is not None else None


def stand_in(root: Path, tip: str, apart: dict[str, str]) -> str:
    """One commit with the tip's files: a shallow repository lacks the history that a bundle would need.

    The same tip always gives the same commit, so that `squib apply` can find the tip again.
    """
    message = f"All up to {tip}\n\nThe history was not sent: the repository is shallow."
    return git.text(root, "commit-tree", f"{tip}^{{tree}}", "-m", message, env=apart | git.dated(root, tip))


def _with_changes(root: Path, scratch: Path, base: str | None, apart: dict[str, str]) -> tuple[str | None, int]:
    """A commit of the work tree on `base`, made with an index of its own; `base` itself where nothing has changed."""
    index = Path(git.text(root, "rev-parse", "--git-path", "index"))
    own = scratch / "index"
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(root / index, own)  # what it knows of unchanged files saves reading them
    env = apart | {"GIT_INDEX_FILE": str(own)}
    git.run(root, "add", "--update", "--", ".", env=env)
    listed = git.run(root, "ls-files", "-z", "--others", "--exclude-standard", env=env).split(b"\0")
    # a name that ends with a slash is another repository within this one: its files are not of this repository
    untracked = [name for name in listed if name and not name.endswith(b"/")]
    if untracked:
        git.run(root, "update-index", "-z", "--add", "--stdin", stdin=b"\0".join(untracked) + b"\0", env=env)
    tree = git.text(root, "write-tree", env=env)
    against = f"{base}^{{tree}}" if base else git.text(root, "mktree", env=env)  # mktree of nothing: the empty tree
    changed = git.run(root, "diff-tree", "-r", "-z", "--name-only", against, tree, env=env)
    if not changed:
        return base, 0
    parents = ["-p", base] if base else []
    commit = git.text(root, "commit-tree", tree, *parents, "-m", "Uncommitted changes", env=env)
    return commit, changed.count(b"\0")
