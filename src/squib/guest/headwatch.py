"""The watch on HEAD: a commit that an agent makes becomes a `git.commit` event within a second."""

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from squib.contracts.errors import SquibError
from squib.contracts.event import EventType
from squib.guest import lazy

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

log = logging.getLogger("squib.guest")
POLL_SECONDS = 0.5
_MOST = 50  # commits that one look tells of


class HeadWatch:
    """Looks at the repository's HEAD by reading two small files; asks git only when it has moved."""

    def __init__(self, guest: "Supervisor"):
        self._guest = guest
        self._head = self._read()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Tell of the commits since the last look."""
        before, now = self._head, self._read()
        if now not in (before, None):
            try:
                commits = await lazy.member("squib.guest.git:new_commits")(self._guest, before, now, _MOST)
            except SquibError as error:
                log.warning("the new commits cannot be told: %s", error)
                commits = []
            for commit, subject in commits:
                self._guest.events.record(EventType.GIT_COMMIT, {"commit": commit, "subject": subject})
        self._head = now  # last: a look that is cancelled is made again

    def _read(self) -> str | None:
        """The commit that HEAD names; None where there is none, or no repository."""
        head = self._text(".git/HEAD")
        if not head.startswith("ref: "):
            return head if _is_commit(head) else None
        ref = head[5:]
        commit = self._text(f".git/{ref}")
        if _is_commit(commit):
            return commit
        for line in self._text(".git/packed-refs", 4 * 1024 * 1024).splitlines():
            if line.endswith(f" {ref}") and _is_commit(line.split(" ")[0]):
                return line.split(" ")[0]
        return None

    def _text(self, path: str, limit: int = 1024) -> str:
        try:
            fd = self._guest.workspace.open_file(path)
        except SquibError:
            return ""
        try:
            return os.read(fd, limit).decode("utf-8", "replace").strip()
        except OSError:
            return ""
        finally:
            os.close(fd)


def _is_commit(text: str) -> bool:
    return len(text) in (40, 64) and all(c in "0123456789abcdef" for c in text)
