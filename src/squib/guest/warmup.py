"""Loading what the first requests will need, while the guest waits: a pooled guest then answers them at once.

Only after a while, and one module at a time: a guest that has just started, perhaps with fifty others, is not to be
slowed down, nor a request that comes meanwhile. Before the guest is frozen, all of it at once, and more.
"""

import asyncio
from collections.abc import Iterator

from squib.guest import lazy

_DELAY_SECONDS = 1.0
_PAUSE_SECONDS = 0.01
_MODULES = (
    "squib.guest.routes.base",
    "squib.guest.routes.run",
    "squib.guest.runs",
    "squib.guest.routes.terminal",
    "squib.guest.routes.git",
)
#: What the memory of a guest that just waits is too dear for: a frozen one shares it with all that are made of it.
_FROZEN = (
    "squib.guest.resume",
    "squib.guest.routes.files",
    "squib.guest.routes.pty",
    "squib.guest.archive",
    "concurrent.futures.thread",
    "encodings.idna",
)
#: Contract types of the first requests, each with a body by which the decoder's plan for it is made.
_BODIES = {
    "RunRequest": '{"run_id":"","agent":"","prompt":""}',
    "TerminalRequest": '{"command":""}',
}
_FROZEN_BODIES = {
    "CommitRequest": '{"message":""}',
    "PushRequest": "{}",
    "CancelRequest": '{"run_id":""}',
    "Resume": '{"sandbox_id":"","token_sha256":"","hostname":"","machine_id":"","entropy":"","time":0}',
}


class Warmup:
    """Works in the background within its `with` block."""

    def __init__(self, agents: list[str]):
        self._loop = asyncio.get_running_loop()
        self._steps = self._work(agents)
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "Warmup":
        self._timer = self._loop.call_later(_DELAY_SECONDS, self._step)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _step(self) -> None:
        if next(self._steps, None) is not None:
            self._timer = self._loop.call_later(_PAUSE_SECONDS, self._step)

    def finish(self) -> None:
        """Do at once what is left, and load what only a guest that is to be frozen has loaded before its time."""
        for _ in self._steps:
            pass
        for module in _FROZEN:
            lazy.load(module)
        _decode(_FROZEN_BODIES)

    def _work(self, agents: list[str]) -> Iterator[str]:
        for module in _MODULES:
            lazy.load(module)
            yield module
        registry = lazy.load("squib.agents.registry")
        for name in registry.names():
            if name in agents or not agents:
                registry.get(name).parser()
                yield name
        _decode(_BODIES)


def _decode(bodies: dict[str, str]) -> None:
    contract, codec = lazy.load("squib.contracts.guest"), lazy.load("squib.contracts.codec")
    for name, body in bodies.items():
        codec.loads(getattr(contract, name), body)
