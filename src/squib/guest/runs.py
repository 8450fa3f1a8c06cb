"""Runs: one turn of an agent at a time, by ids that may be sent again."""

import asyncio
import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from squib.agents.registry import get
from squib.contracts.errors import InvalidRequest, NotFound, RunActive
from squib.contracts.guest import CancelRequest, RunRequest, RunState, RunStatus
from squib.guest.run import Run

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

_REMEMBERED = 64
_MAX_SECONDS = 604_800
_MAX_GRACE_SECONDS = 2.5  # a cancellation, SIGKILL and the closing event included, takes at most 5 s


class Runs:
    """The runs of this guest; the newest may be active."""

    def __init__(self, guest: "Supervisor"):
        self._guest = guest
        self._runs: OrderedDict[str, Run] = OrderedDict()

    @property
    def active_id(self) -> str | None:
        """The id of the run that is active."""
        newest = self._newest
        return newest.request.run_id if newest is not None and newest.active else None

    @property
    def _newest(self) -> Run | None:
        return next(reversed(self._runs.values()), None)

    def start(self, request: RunRequest) -> RunStatus:
        """Start a run, or give the status of the one with this id.

        Raises RunActive where another is active, InvalidRequest for an unknown agent or a bad field.
        """
        known = self._runs.get(request.run_id)
        if known is not None:
            return known.status
        if self.active_id is not None:
            raise RunActive(f"{self.active_id} is active")
        _check(request)
        run = Run(self._guest, request, get(request.agent))
        run.start()
        self._runs[request.run_id] = run
        while len(self._runs) > _REMEMBERED:
            self._runs.popitem(last=False)
        return run.status

    def status(self) -> RunStatus:
        """The newest run's status. Raises NotFound where nothing has run."""
        if self._newest is None:
            raise NotFound("nothing has run yet", advice="POST /run starts one.")
        return self._newest.status

    async def cancel(self, request: CancelRequest) -> RunStatus:
        """End a run and give its status once its tree has ended; one that is over is left as it is.

        Raises NotFound.
        """
        run = self._runs.get(request.run_id)
        if run is None:
            raise NotFound(f"there is no run {request.run_id[:100]}")
        await run.stop(RunState.CANCELLED, min(max(request.grace_seconds, 0.0), _MAX_GRACE_SECONDS))
        return run.status

    async def close(self) -> None:
        """End the run that is active, if one is."""
        newest = self._newest
        if newest is not None and newest.active:
            with contextlib.suppress(TimeoutError):  # the guest's own end takes all processes with it
                async with asyncio.timeout(_MAX_GRACE_SECONDS * 2):
                    await newest.stop(RunState.CANCELLED, 1.0)


def _check(request: RunRequest) -> None:
    problems = {
        "run_id": "must be 1 to 100 characters" if not 0 < len(request.run_id) <= 100 else "",
        "prompt": "must not be empty nor hold a NUL" if not request.prompt or "\0" in request.prompt else "",
        "seconds": f"must be 1 to {_MAX_SECONDS}" if not 1 <= request.seconds <= _MAX_SECONDS else "",
    }
    for name, problem in problems.items():
        if problem:
            raise InvalidRequest(f"{name}: {problem}", fields={name: problem})
