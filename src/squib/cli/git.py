"""git, run so that nothing in a repository makes it do more than it was asked: no hook, no prompt, no network.

The settings are those of the host's own git (see SECURITY.md). What the user's repository itself configures, such
as filters of its attributes, is the user's and stays; what came from an agent is only ever fetched from a bundle.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from squib.contracts.errors import RepositoryError

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "credential.helper=",
    "protocol.allow=never",
    "protocol.file.allow=always",  # a bundle is a file
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "fetch.fsckObjects=true",
    "fetch.writeCommitGraph=false",
    "transfer.fsckObjects=true",
    "transfer.bundleURI=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "core.quotePath=true",
    "advice.detachedHead=false",
)
_PREFIX = ["git", "--no-pager", *(part for setting in _SETTINGS for part in ("-c", setting))]
#: Who makes the commits that squib itself makes.
AUTHOR = {
    "GIT_AUTHOR_NAME": "squib",
    "GIT_AUTHOR_EMAIL": "squib@localhost",
    "GIT_COMMITTER_NAME": "squib",
    "GIT_COMMITTER_EMAIL": "squib@localhost",
}

#: For repositories that hold what is not the user's: without the user's and the machine's configuration.
ALONE = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}


class GitError(RepositoryError):
    """git refused; the detail holds its last words."""

    default_advice = "git said why; 'git fsck' checks a repository."


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The user's environment without what would steer git elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    fixed = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "false",
        "GIT_SSH_COMMAND": "false",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "LC_ALL": "C",
    }
    return kept | fixed | dict(extra or {})


def run(directory: Path, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
    """Run git in `directory` and return its standard output. Raises GitError."""
    try:
        done = subprocess.run(
            [*_PREFIX, *arguments], cwd=directory, input=stdin, capture_output=True, env=environment(env), check=False
        )
    except FileNotFoundError:
        advice = "Install git 2.31 or newer, and name an existing directory."
        raise GitError(f"git, or {directory}, is not there", advice=advice) from None
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit {done.returncode}"]
        telling = next((line for line in words if line.startswith(("fatal:", "error:"))), words[-1])
        raise GitError(f"git {arguments[0]}: {telling}")
    return done.stdout


def text(directory: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """The same as text, without the newline at its end."""
    return run(directory, *arguments, env=env).decode("utf-8", "surrogateescape").rstrip("\n")


def ask(directory: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str | None:
    """The same, or None where git says no."""
    try:
        return text(directory, *arguments, env=env)
    except GitError:
        return None


def top(directory: Path) -> Path:
    """The work tree's root (or the bare repository) that holds `directory`. Raises GitError where there is none."""
    if not directory.is_dir():
        raise GitError(f"{directory} is no directory", advice="Name an existing git repository with --repo.")
    try:
        bare = text(directory, "rev-parse", "--is-bare-repository")
    except GitError as error:
        if "not a git repository" not in error.detail:
            raise  # it is one that git will not enter, such as another user's: git says what to do
        advice = "Go into one, or name it with --repo; 'git init' makes one."
        raise GitError(f"{directory.absolute()} is no git repository", advice=advice) from None
    return Path(text(directory, "rev-parse", "--absolute-git-dir" if bare == "true" else "--show-toplevel"))


def new_bare(path: Path, beside: Path) -> Path:
    """A bare repository at `path` that reads another's objects, too, and keeps its own apart."""
    path.mkdir(parents=True)
    run(path, "init", "--quiet", "--bare", "--template=", ".", env=ALONE)
    (path / "objects" / "info").mkdir(exist_ok=True)
    (path / "objects" / "info" / "alternates").write_text(f"{_objects(beside)}\n")
    shallow = beside / text(beside, "rev-parse", "--git-path", "shallow")
    if shallow.exists():
        shutil.copyfile(shallow, path / "shallow")
    return path


def apart(bare: Path, root: Path) -> dict[str, str]:
    """Variables with which git in `root` writes its objects to `bare`, and makes commits as squib."""
    return {
        "GIT_OBJECT_DIRECTORY": str(bare / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(_objects(root)),
        **AUTHOR,
    }


def dated(directory: Path, commit: str) -> dict[str, str]:
    """Variables that give a new commit the date of another, so that making it again gives the same one."""
    when = text(directory, "show", "--no-patch", "--format=%ct +0000", commit)
    return {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}


def _objects(directory: Path) -> Path:
    return (directory / text(directory, "rev-parse", "--git-path", "objects")).absolute()
