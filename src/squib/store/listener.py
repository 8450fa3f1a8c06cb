"""PostgreSQL's LISTEN: other processes' wake-ups arrive here. One connection, which comes back by itself."""

import asyncio
import contextlib
import logging

import psycopg
import sqlalchemy as sa

from squib.store.database import CHANNEL
from squib.store.signals import Signals

_log = logging.getLogger(__name__)


class Listener:
    """Runs until cancelled. `origin` marks this process's own notifications, which have been heard already."""

    def __init__(self, url: sa.URL, signals: Signals, origin: str) -> None:
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._signals = signals
        self._own = origin + " "
        self.listening = asyncio.Event()  # set while the connection stands

    async def ready(self) -> None:
        """Wait a moment for the first connection: what is committed after this is heard."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self.listening.wait()

    async def run(self) -> None:
        """Listen; after each reconnection wake everyone, because something may have been missed."""
        delay = 0.1
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError) as error:
                if self.listening.is_set():
                    delay = 0.1
                _log.warning("listening to the database ended, trying again: %s", error)
            finally:
                self.listening.clear()
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._dsn, autocommit=True, connect_timeout=5, application_name="squib listener"
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            self.listening.set()
            self._signals.wake_all()
            async for notice in connection.notifies():
                if not notice.payload.startswith(self._own):
                    self._signals.wake(notice.payload.partition(" ")[2])
