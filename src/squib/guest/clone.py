"""Bringing a repository in: a bundle's objects, its branches as remote ones, and one commit checked out."""

import os
from typing import TYPE_CHECKING

from squib.contracts.errors import InvalidRequest, RepositoryError
from squib.guest.git import git, has_repository, head

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor


def check_commit(name: str, text: str) -> str:
    """Give `text`, a full commit id. Raises InvalidRequest, which names the field."""
    if len(text) in (40, 64) and all(c in "0123456789abcdef" for c in text):
        return text
    message = "must be a full commit id in hexadecimal"
    raise InvalidRequest(f"{name}: {message}", fields={name: message})


async def is_there(guest: "Supervisor", commit: str, reset: str | None) -> bool:
    """Whether this very clone was done before: HEAD is at its commit, or at one that followed."""
    if not has_repository(guest):
        return False
    present = await head(guest)
    if present is None:
        return False
    wanted = await git(guest, "cat-file", "-e", f"{commit}^{{commit}}", check=False)
    if wanted.code != 0:
        return False
    if present == commit and reset is not None and reset != commit:
        return False  # it was broken off before its last step
    base = await git(guest, "merge-base", "--is-ancestor", reset or commit, present, check=False)
    return base.code == 0


async def clone(guest: "Supervisor", bundle: str, commit: str, reset: str | None, branch: str | None) -> None:
    """Make the workspace a repository of what the bundle (a file's path) holds, `commit` checked out on `branch`.

    With `reset`, the branch then moves there and what differs stays in the work tree, uncommitted. Each step may
    be done again. Raises RepositoryError.
    """
    name = branch or "main"
    if (await git(guest, "check-ref-format", "--branch", name, check=False)).code != 0 or name.startswith("-"):
        raise InvalidRequest("branch: is no valid name", fields={"branch": "is no valid name"})
    verified = await git(guest, "bundle", "list-heads", bundle, check=False)
    if verified.code != 0:
        raise RepositoryError("the body is no git bundle", fields={"body": "no git bundle"})
    form = "sha256" if len(commit) == 64 else "sha1"
    if has_repository(guest) and guest.runs.active_id is None:
        _unlock(guest)
    # Also where there is one: a clone that was broken off may have left half of it, which this completes.
    await git(guest, "init", "--quiet", "--template=", f"--object-format={form}", f"--initial-branch={name}")
    heads = await git(guest, "bundle", "unbundle", bundle)
    await git(guest, "update-ref", "--stdin", stdin=_refs(heads.text))
    for wanted in {commit, reset or commit}:
        if (await git(guest, "cat-file", "-e", f"{wanted}^{{commit}}", check=False)).code != 0:
            raise RepositoryError(f"the bundle does not hold the commit {wanted}", fields={"commit": "not in it"})
    await git(guest, "checkout", "--quiet", "--force", "-B", name, commit, "--")
    if reset is not None and reset != commit:
        await git(guest, "reset", "--quiet", "--mixed", reset, "--")


def _unlock(guest: "Supervisor") -> None:
    """Remove the locks of a git that was killed. Without a run, nobody else's git is at work here."""
    for _, _, names, fd in os.fwalk(".git", dir_fd=guest.workspace.fd):
        for name in names:
            if name.endswith(".lock"):
                os.unlink(name, dir_fd=fd)


def _refs(heads: str) -> bytes:
    """The bundle's branches become the remote's, its tags ours; what is squib's own stays out."""
    lines = []
    for line in heads.splitlines():
        commit, _, ref = line.partition(" ")
        if ref.startswith("refs/heads/"):
            lines.append(f"update refs/remotes/origin/{ref[11:]} {commit}\n")
        elif ref.startswith("refs/tags/"):
            lines.append(f"update {ref} {commit}\n")
    return "".join(lines).encode()


def temporary(guest: "Supervisor") -> tuple[int, str]:
    """A new file of the guest's own, which its owner unlinks: its descriptor and its path."""
    path = f"{guest.config.state_dir}/{os.urandom(8).hex()}.bundle"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), path
