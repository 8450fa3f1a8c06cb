"""The orchestrator of a host that is a process of its own: its daemon's HTTP API (`contracts.host`)."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx2

from squib.contracts import codec
from squib.contracts.errors import HostUnreachable, InvalidRequest, NotFound, SquibError, from_problem
from squib.contracts.host import ForkRequest, HostStatus, SandboxList, Suspended
from squib.contracts.sandbox import Sandbox, SandboxSpec
from squib.link import host_token

T = TypeVar("T")
PATIENCE = 30.0  # seconds that a daemon may take to come back: its machines run on meanwhile
LONG_SECONDS = 900.0  # for what makes, freezes or ends machines
QUICK_SECONDS = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_MAX_BYTES = 16 * 1024 * 1024  # of an answer


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon is: `http://HOST:PORT`, `https://…` or `unix:PATH`."""

    base: str  # the URL of requests
    guests: str  # what endpoints of guests begin with
    socket: str | None = field(default=None)

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read it. Raises InvalidRequest."""
        if text.startswith("unix:/"):
            path = text.removeprefix("unix:")
            return cls("http://host", f"http+unix://{quote(path, safe='')}", path)
        try:
            parts = urlsplit(text)
            good = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.username
            good = good and parts.port != 0
        except ValueError:  # no port, or half an address
            good = False
        if not good:
            words = "must be http://HOST:PORT, https://HOST or unix:/PATH"
            raise InvalidRequest(f"{text!r} is no host's URL: it {words}", fields={"SQUIB_HOST_URL": words})
        return cls(text.rstrip("/"), text.rstrip("/"))


class RemoteOrchestrator:
    """Sandboxes of the daemon at `url`. An async context manager.

    Every call can be made again, and is, for `patience` seconds while the daemon does not answer; then it raises
    HostUnreachable. Else it raises what the daemon says, as the protocol has it.
    """

    def __init__(self, url: str, key: bytes, *, patience: float = PATIENCE):
        self._place = Place.parse(url)
        self._patience = patience
        self._http = httpx2.AsyncClient(
            base_url=self._place.base,
            headers={"Authorization": f"Bearer {host_token(key)}"},
            transport=httpx2.AsyncHTTPTransport(uds=self._place.socket, limits=_LIMITS),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def status(self) -> HostStatus:
        """How the host stands. Raises HostUnreachable, or Unauthenticated where the keys differ."""
        return await self._call(HostStatus, "GET", "/v1/status")

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Make it there, or find it."""
        return await self._sandbox("PUT", _of(spec.id), spec)

    async def get(self, sandbox_id: str) -> Sandbox | None:
        """Look it up."""
        try:
            return await self._sandbox("GET", _of(sandbox_id), seconds=QUICK_SECONDS)
        except NotFound:
            return None

    async def delete(self, sandbox_id: str) -> None:
        """End it; an unknown id is fine."""
        await self._answer("DELETE", _of(sandbox_id), None, LONG_SECONDS)

    async def list(self) -> list[Sandbox]:
        """All that are there."""
        found = await self._call(SandboxList, "GET", "/v1/sandboxes")
        return [self._reached(sandbox) for sandbox in found.items]

    async def suspend(self, sandbox_id: str) -> bool:
        """Put it to disk, where its driver can."""
        call = self._call(Suspended, "POST", _of(sandbox_id) + "/suspend", seconds=LONG_SECONDS)
        return (await call).suspended

    async def resume(self, sandbox_id: str) -> Sandbox | None:
        """Let it go on; None where it is unknown or lost."""
        try:
            return await self._sandbox("POST", _of(sandbox_id) + "/resume")
        except NotFound:
            return None

    async def fork(self, sandbox_id: str, specs: Sequence[SandboxSpec]) -> Sequence[Sandbox]:
        """Copy it there."""
        body, path = ForkRequest(tuple(specs)), _of(sandbox_id) + "/fork"
        made = await self._call(SandboxList, "POST", path, body, LONG_SECONDS)
        return [self._reached(sandbox) for sandbox in made.items]

    async def _sandbox(
        self, method: str, path: str, body: object | None = None, seconds: float = LONG_SECONDS
    ) -> Sandbox:
        return self._reached(await self._call(Sandbox, method, path, body, seconds))

    def _reached(self, sandbox: Sandbox) -> Sandbox:
        """With its guest's address as seen from here; the daemon names a path of its own alone."""
        if not sandbox.endpoint.startswith("/"):
            raise HostUnreachable(f"the host at {self._place.base} names no path of its own for {sandbox.id}")
        return replace(sandbox, endpoint=self._place.guests + sandbox.endpoint)

    async def _call(
        self, kind: type[T], method: str, path: str, body: object | None = None, seconds: float = QUICK_SECONDS
    ) -> T:
        raw = await self._answer(method, path, body, seconds)
        try:
            return codec.loads(kind, raw, lenient=True)  # a newer daemon may say more
        except (InvalidRequest, ValueError, RecursionError) as error:
            raise HostUnreachable(f"{self._place.base} answered what is no {kind.__name__}: {error}") from error

    async def _answer(self, method: str, path: str, body: object | None, seconds: float) -> bytes:
        """The body of a good answer; asked again while there is none. Raises what a problem document tells of."""
        content = None if body is None else codec.dumps(body)
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + self._patience, _FIRST_PAUSE
        while True:
            try:
                status, raw = await self._once(method, path, content, seconds)
                break
            except (httpx2.TransportError, _Away) as error:
                if loop.time() + pause > end:
                    why = str(error) or type(error).__name__
                    raise HostUnreachable(f"no answer from the host at {self._place.base}: {why}") from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        if not 200 <= status < 300:
            raise _problem(status, raw)
        return raw

    async def _once(self, method: str, path: str, content: bytes | None, seconds: float) -> tuple[int, bytes]:
        timeout = httpx2.Timeout(seconds, connect=10.0, pool=seconds)
        async with self._http.stream(method, path, content=content, timeout=timeout) as answer:
            raw = bytearray()
            async for chunk in answer.aiter_raw():
                raw += chunk
                if len(raw) > _MAX_BYTES:
                    raise HostUnreachable(f"the host's answer is over {_MAX_BYTES} bytes")
            if answer.status_code in _GATEWAYS and _PROBLEM not in answer.headers.get("content-type", ""):
                raise _Away(f"status {answer.status_code} of what stands before it")
            return answer.status_code, bytes(raw)


class _Away(Exception):
    """What stands in front of the daemon, for TLS perhaps, does not reach it."""


_GATEWAYS = frozenset({502, 503, 504})
_PROBLEM = "application/problem+json"
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=16, keepalive_expiry=30.0)


def _of(sandbox_id: str) -> str:
    return f"/v1/sandboxes/{quote(sandbox_id, safe='')}"


def _problem(status: int, raw: bytes) -> SquibError:
    try:
        document: Any = json.loads(raw)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or "code" not in document:
        return HostUnreachable(f"the host answered with status {status}, and no word of why")
    return from_problem(document)
