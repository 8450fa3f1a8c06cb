"""The snapshots that a running host may use: looked at and verified beside its work, never in a claim's way.

One that is not verified yet counts as absent: the machine boots meanwhile. So do those that are damaged, do not fit
this host any more, or have failed a few times; the log names each with the reason.
"""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import structlog

from squib.host.making import Order
from squib.host.snapshots import quiet
from squib.host.snapshots.judge import Judge, Stamp, damage, stamp
from squib.host.snapshots.store import Snapshots, Stored

log = structlog.get_logger(__name__)
LOOK_SECONDS = 60.0  # programs and images may change beside us
MOST_FAILURES = 3


class Shelf:
    """Finds the snapshot for an order. `run` looks after it."""

    def __init__(self, store: Snapshots, judge: Judge):
        self._store = store
        self._judge = judge
        self._usable: list[tuple[Stored, Stamp]] = []
        self._whole: dict[str, tuple[Stamp, str | None]] = {}  # what reading its parts has shown
        self._told: dict[str, str | None] = {}
        self._failures: dict[str, int] = {}
        self._seen = -1
        self._wake = asyncio.Event()
        self.looked = asyncio.Event()  # set once the first look is over

    def find(self, order: Order) -> Stored | None:
        """The newest usable snapshot that serves the order. Reads nothing but a few files' times."""
        if self._changed() != self._seen:
            self._wake.set()
        for stored, verified in self._usable:
            if _serves(stored, order) and self._failures.get(stored.id, 0) < MOST_FAILURES:
                with contextlib.suppress(OSError):
                    if stamp(stored) == verified:
                        return stored
                self._wake.set()
        return None

    def failed(self, stored: Stored, why: str) -> None:
        """A machine did not go on from it. After MOST_FAILURES it is left alone, until this process ends."""
        self._failures[stored.id] = count = self._failures.get(stored.id, 0) + 1
        log.error(
            "a machine did not go on from its snapshot and boots instead",
            snapshot=stored.id,
            failures=count,
            given_up=count >= MOST_FAILURES,
            error=why,
        )

    async def run(self) -> None:
        """Look now, whenever the store has changed, and now and then, until cancelled."""
        with quiet.thread() as readers:
            while True:
                self._wake.clear()
                try:
                    await self.look(readers)
                except Exception:
                    log.exception("the snapshots can't be looked at")
                self.looked.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._wake.wait()

    async def look(self, readers: ThreadPoolExecutor) -> None:
        """Judge each that is there, reading the parts of those that were not read or have changed since."""
        self._seen = self._changed()
        usable, there = [], await asyncio.to_thread(self._store.all)
        for stored in there:
            why, verified = await self._why_not(stored, readers)
            if self._told.get(stored.id, "") != why:
                self._told[stored.id] = why
                if why is None:
                    log.info("a snapshot is ready for use", snapshot=stored.id)
                else:
                    log.warning("a snapshot is not used", snapshot=stored.id, reason=why)
            if why is None:
                usable.append((stored, verified))
        self._usable = usable
        known = {stored.id for stored in there}
        for forgotten in self._whole.keys() - known:
            del self._whole[forgotten]

    async def _why_not(self, stored: Stored, readers: ThreadPoolExecutor) -> tuple[str | None, Stamp]:
        if (why := await self._judge.incompatible(stored)) is not None:
            return why, ()
        try:
            now = stamp(stored)
        except OSError as error:
            return f"its parts can't be read: {error}", ()
        if self._whole.get(stored.id, ((), None))[0] != now:
            found = await asyncio.get_running_loop().run_in_executor(readers, damage, stored)
            self._whole[stored.id] = now, found
        return self._whole[stored.id][1], now

    def _changed(self) -> int:
        """Changes whenever a snapshot comes or goes."""
        try:
            return self._store.root.stat().st_mtime_ns
        except OSError:
            return 0


def _serves(stored: Stored, order: Order) -> bool:
    snapshot, request = stored.snapshot, order.request
    if snapshot is None or (snapshot.fabric.driver, snapshot.image) != (order.driver.name, order.base.digest):
        return False
    same = (snapshot.cpu, snapshot.memory) == (request.cpu, request.memory)
    return (same or not order.capability.fixed) and request.disk <= snapshot.disk
