"""The environment that commands and agents get: made from nothing, never the guest's own."""

import functools
import os
from collections.abc import Mapping

from squib.contracts.errors import InvalidRequest
from squib.contracts.guest import GuestConfig
from squib.guest.tree import MARK

#: Commits work without any configuration; these are also what `git` of the guest itself uses.
IDENTITY = {
    "GIT_AUTHOR_NAME": "squib",
    "GIT_AUTHOR_EMAIL": "squib@localhost",
    "GIT_COMMITTER_NAME": "squib",
    "GIT_COMMITTER_EMAIL": "squib@localhost",
}


def build(config: GuestConfig, origin: str, *added: Mapping[str, str], term: str = "dumb") -> dict[str, str]:
    """Make the environment of a process that comes from `origin`; later mappings of `added` win.

    Below them lies the image's, but for what is the sandbox's own: its home and its user.
    Raises InvalidRequest for a name or value that no process can have.
    """
    image = config.environment
    folders = [*image.get("PATH", "").split(":"), *config.path.split(":")]
    own = {
        "PATH": ":".join(dict.fromkeys(folder for folder in folders if folder)),
        "HOME": config.home,
        "USER": _user(),
        "LOGNAME": _user(),
        "SHELL": shell(),
        "LANG": image.get("LANG", "C.UTF-8"),
        "TERM": term,
        **IDENTITY,
    }
    environment: dict[str, str] = {}
    for mapping in (image, own, *added):
        for name, value in mapping.items():
            if not name or "=" in name or "\0" in name or "\0" in value:
                raise InvalidRequest(
                    f"env: {name!r} cannot be set", fields={"env": "names hold no '=', and nothing holds a NUL"}
                )
            environment[name] = value
    environment[MARK] = origin
    return environment


@functools.cache
def shell() -> str:
    """The shell that people get: bash where there is one."""
    return "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"


@functools.cache
def _user() -> str:
    """The user's name by /etc/passwd, read without the pwd module's name services; `agent` where it has none."""
    wanted = str(os.getuid())
    try:
        with open("/etc/passwd", encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.split(":")
                if len(fields) > 3 and fields[2] == wanted:
                    return fields[0]
    except OSError:
        pass
    return "agent"
