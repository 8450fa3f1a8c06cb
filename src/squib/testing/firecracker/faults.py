"""Trouble on demand: a file of JSON says at which step what goes wrong.

    {"PUT /snapshot/load": {"do": "die"}, "PATCH /drives/*": {"do": "slow", "seconds": 0.2}}

A step is a request, `*` standing for anything, or one of `start` (before the VMM listens) and `guest` (before the
guest's process starts). What is done: `slow` waits `seconds` and goes on; `refuse` answers `status` (400) with
`message`; `die` ends the process with exit status `code` (137: by SIGKILL), and with `"after": true` only once the
step is done, unanswered; `hang` never goes on, nor does any other request, which all wait for one another. `skip`
passes the first so many over, `times` is how often it happens then (absent: always).

The file is /faults.json of the VMM's root, read anew at each step, or what SQUIB_FIRECRACKER_FAULTS names. The
jailer, which gives its VMM no environment, copies a faults.json that lies beside the program into the jail.
"""

import asyncio
import fnmatch
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from squib.testing.firecracker.fault import Fault
from squib.testing.firecracker.names import FAULTS

ENVIRONMENT = "SQUIB_FIRECRACKER_FAULTS"
_KILLED = 137


class Faults:
    """What is to go wrong, by a file that may be there or not."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or Path(os.environ.get(ENVIRONMENT) or f"/{FAULTS}")
        self._met: Counter[str] = Counter()

    async def before(self, step: str) -> None:
        """A step begins. Raises Fault, or does not return."""
        if (rule := self._due(step, after=False)) is None:
            return
        match rule["do"]:
            case "slow":
                await asyncio.sleep(float(rule["seconds"]))
            case "refuse":
                raise Fault(str(rule.get("message", "refused on demand")), int(rule.get("status", 400)))
            case "die":
                _die(int(rule.get("code", _KILLED)))
            case "hang":
                await asyncio.Event().wait()
            case other:
                raise ValueError(f"{self._path}: {other!r} is none of slow, refuse, die, hang")

    def after(self, step: str) -> None:
        """A step is done, and not yet answered. May not return."""
        if (rule := self._due(step, after=True)) is not None and rule["do"] == "die":
            _die(int(rule.get("code", _KILLED)))

    def _due(self, step: str, *, after: bool) -> dict[str, Any] | None:
        try:
            rules = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        for pattern, rule in rules.items():
            if fnmatch.fnmatchcase(step, pattern) and bool(rule.get("after")) is after:
                self._met[pattern] += 1
                nth = self._met[pattern] - int(rule.get("skip", 0))
                return dict(rule) if 1 <= nth <= int(rule.get("times", nth)) else None
        return None


def _die(code: int) -> None:
    if code == _KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(code)
