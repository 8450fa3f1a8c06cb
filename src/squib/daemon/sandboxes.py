"""Sandboxes by id over HTTP: the orchestrator's protocol, one route a call."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from squib.contracts import ids
from squib.contracts.errors import InvalidRequest, NotFound
from squib.contracts.host import MAX_FORKS, ForkRequest, SandboxList, SnapshotList, Suspended, guest_path
from squib.contracts.sandbox import Sandbox, SandboxSpec
from squib.daemon.access import sandbox_id
from squib.daemon.bodies import answer, read
from squib.host import Host
from squib.orchestrator.local import LocalOrchestrator

Handler = Callable[[Request], Awaitable[Response]]
MAX_TTL = 30 * 86_400  # seconds


class Sandboxes:
    """The routes' handlers. What they begin they end, also where the caller has left: each can be asked again."""

    def __init__(self, host: Host):
        self._host = host
        self._orchestrator = LocalOrchestrator(host)

    async def put(self, request: Request) -> Response:
        """Make it, or find it."""
        spec = await read(SandboxSpec, request)
        if spec.id != sandbox_id(request):
            raise InvalidRequest("id: is not the one of the path", fields={"id": "must be the one of the path"})
        _check(spec)
        return answer(_seen(await self._orchestrator.create(spec)))

    async def get(self, request: Request) -> Response:
        """Look it up."""
        return answer(_seen(await self._orchestrator.get(sandbox_id(request))))

    async def list(self, _: Request) -> Response:
        """All that are here."""
        return answer(SandboxList(tuple(_seen(each) for each in await self._orchestrator.list())))

    async def delete(self, request: Request) -> Response:
        """End it."""
        await self._orchestrator.delete(sandbox_id(request))
        return Response(status_code=204)

    async def suspend(self, request: Request) -> Response:
        """Put it to disk."""
        return answer(Suspended(await self._orchestrator.suspend(sandbox_id(request))))

    async def resume(self, request: Request) -> Response:
        """Let it go on."""
        return answer(_seen(await self._orchestrator.resume(sandbox_id(request))))

    async def fork(self, request: Request) -> Response:
        """Copy it."""
        specs = (await read(ForkRequest, request)).specs
        if not 1 <= len(specs) <= MAX_FORKS or len({spec.id for spec in specs}) != len(specs):
            raise InvalidRequest(f"specs: must be 1 to {MAX_FORKS}, each of another id", fields={"specs": "number"})
        for spec in specs:
            _check(spec)
        made = await self._orchestrator.fork(sandbox_id(request), specs)
        return answer(SandboxList(tuple(_seen(each) for each in made)))

    async def status(self, _: Request) -> Response:
        """How the host stands."""
        return answer(self._host.status())

    async def snapshots(self, _: Request) -> Response:
        """What machines here can go on from."""
        return answer(SnapshotList(tuple(await asyncio.to_thread(self._host.snapshots))))


def _seen(sandbox: Sandbox | None) -> Sandbox:
    """As others see it: its guest is reached through here. Raises NotFound."""
    if sandbox is None:
        raise NotFound("there is no such sandbox here", advice="It was never made here, or is gone.")
    return replace(sandbox, endpoint=guest_path(sandbox.id))


def _check(spec: SandboxSpec) -> None:
    """What the codec does not know: ids become names of files. Raises InvalidRequest."""
    if not ids.is_id(spec.id, "sbx") or not ids.is_id(spec.task_id, "task"):
        raise InvalidRequest("id, task_id: must be ids of squib's", fields={"id": "sbx-…", "task_id": "task-…"})
    if not 0 < spec.ttl_seconds <= MAX_TTL:
        raise InvalidRequest(f"ttl_seconds: must be at most {MAX_TTL}", fields={"ttl_seconds": "out of range"})
