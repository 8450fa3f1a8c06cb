"""The guest as a whole: what it consists of, how long it lives, and how it ends all that it began."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import squib
from squib.contracts import codec
from squib.contracts.errors import SquibError
from squib.contracts.guest import CONTRACT_VERSION, GuestConfig, Health, Resume
from squib.guest import boot, ignore, lazy, tree
from squib.guest.application import Application
from squib.guest.children import Children
from squib.guest.confine import Root
from squib.guest.events import EventLog
from squib.guest.exchange import Exchange
from squib.guest.helper import Helper
from squib.guest.journal import Journal
from squib.guest.lease import Lease
from squib.guest.relay import Relay
from squib.guest.ring import Ring
from squib.guest.server import Server, vanish
from squib.guest.warmup import Warmup

if TYPE_CHECKING:
    from squib.guest.runs import Runs

log = logging.getLogger("squib.guest")
_END_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Places:
    """Where files of this guest's start lie."""

    config: Path  # its configuration
    program: Path  # this very program, which brings the mock agent


class Supervisor:
    """Holds the parts; handlers get it with each request."""

    def __init__(
        self, config: GuestConfig, journal: Journal, group: asyncio.TaskGroup, children: Children, places: Places
    ):
        self.config, self.journal, self.group, self.children = config, journal, group, children
        self.places = places
        self.helper = Helper.inherited()
        children.apart = None if self.helper is None else self.helper.pid
        self.sandbox_id = config.sandbox_id
        self.token_sha256 = config.token_sha256.lower()
        self.workspace = Root(config.workspace)
        ring = Ring(Path(config.state_dir) / "events", config.ring_bytes)
        self.events = EventLog(ring, config.unread_events, squib.__version__)
        self.requests: list[Exchange] = []  # that are being answered: work, or the guest would be at rest
        self.warmup = Warmup(list(config.agents))
        self.stopping = False
        self.thaw: str | None = None  # while the guest lets go of all that is outside: the file that it waits for
        self._turn = asyncio.Event()
        self.lease = Lease(config.lease_seconds, self._forsaken)
        self.relay = Relay(config.gateway, config.gateway_port)
        self.git_lock = asyncio.Lock()
        self._born = time.monotonic()
        self._runs: Runs | None = None

    @property
    def runs(self) -> "Runs":
        """The agent's runs; their code is loaded with the first."""
        if self._runs is None:
            self._runs = lazy.member("squib.guest.runs:Runs")(self)
        return self._runs

    def stop(self) -> None:
        """End the guest."""
        self.stopping = True
        self._turn.set()

    def leave(self, thaw: str) -> None:
        """Let go of all that is outside, until the file `thaw` lies beside the configuration."""
        self.thaw = thaw
        self._turn.set()

    def become(self, request: Resume) -> None:
        """Take on another identity, or the same one again: a new epoch. Another sandbox's runs are forgotten."""
        if request.sandbox_id != self.sandbox_id:
            self._runs, self._born = None, time.monotonic()
        self.sandbox_id, self.token_sha256 = request.sandbox_id, request.token_sha256.lower()
        self.relay.gateway = request.gateway if request.gateway is not None else self.relay.gateway
        self.events.begin()

    def _forsaken(self) -> None:
        log.warning("nobody has asked for %g seconds: the guest ends itself", self.config.lease_seconds)
        self.stop()

    def health(self) -> Health:
        """Proof of life."""
        return Health(
            sandbox_id=self.sandbox_id,
            epoch=self.events.epoch,
            version=squib.__version__,
            contract=CONTRACT_VERSION,
            uptime_seconds=round(time.monotonic() - self._born, 3),
            rss_bytes=_rss_bytes(),
            run_id=None if self._runs is None else self._runs.active_id,
            last_event=self.events.last,
        )

    async def live(self) -> None:
        """Serve until something says stop; then end every process that came from here."""
        self.events.begin()
        try:
            with self.lease, self.warmup:
                while not self.stopping:
                    await self._serve()
                    if self.thaw is not None:
                        await lazy.member("squib.guest.freeze:away")(self, self.thaw)
        finally:
            await tree.end(tree.everything(self.children.apart), _END_GRACE_SECONDS)
            self.events.close()
            self.workspace.close()
            vanish(self.config.listen)
            if self.helper is not None:
                self.helper.close()

    async def _serve(self) -> None:
        self.thaw = None
        self._turn.clear()
        async with Server(self.config.listen, Application(self).handle), self.relay:
            log.info("ready at %s", self.config.listen)
            await self._turn.wait()
            if self.stopping and self._runs is not None:
                await self._runs.close()


def _rss_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _serve(config: GuestConfig, journal: Journal, places: Places) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        with Children() as children:
            guest = Supervisor(config, journal, group, children, places)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, guest.stop)
            await guest.live()


def serve(path: str) -> int:
    """Supervise by the configuration in the file `path` until told to stop; gives the exit status."""
    journal = Journal()
    journal.install()
    status = 1
    try:
        config = codec.loads(GuestConfig, Path(path).read_bytes(), lenient=True)
        places = Places(Path(path).absolute(), Path(sys.argv[0]).absolute())
        boot.prepare()
        ignore.provide(config.home)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(config, journal, places))
        log.info("ended")
        status = 0
    except* (OSError, SquibError) as errors:
        log.critical("the guest cannot start: %s", errors.exceptions[0])
    return status
