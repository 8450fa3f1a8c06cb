"""Wake-ups by topic, in this process; `listener` carries them between processes on PostgreSQL.

A wake-up says "look again", nothing more. Take the subscription before you check the state: a wake-up that comes
in between makes the next `wait` return at once.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class _Topic:
    __slots__ = ("name", "subscribers", "version", "waiters")

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = 0
        self.subscribers = 0
        self.waiters: set[asyncio.Future[bool]] = set()


class Subscription:
    """One subscriber's view of a topic."""

    __slots__ = ("seen", "topic")

    def __init__(self, topic: _Topic) -> None:
        self.topic = topic
        self.seen = topic.version

    def catch_up(self) -> int:
        """Take all wake-ups so far as seen; the number of the last one."""
        self.seen = self.topic.version
        return self.seen

    async def wait(self, timeout: float) -> bool:
        """Whether a wake-up has come since the last `wait`, waiting up to `timeout` seconds for one."""
        topic = self.topic
        if topic.version == self.seen:
            loop = asyncio.get_running_loop()
            woken: asyncio.Future[bool] = loop.create_future()
            timer = loop.call_later(timeout, _expire, woken)
            topic.waiters.add(woken)
            try:
                await woken
            finally:
                timer.cancel()
                topic.waiters.discard(woken)
        came = topic.version != self.seen
        self.seen = topic.version
        return came


def _expire(woken: "asyncio.Future[bool]") -> None:
    if not woken.done():
        woken.set_result(False)


class Signals:
    """All topics that anyone here subscribes to."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Subscription]:
        """Subscribe to `events:ID`, `control:ID` or `queue` for the length of the block."""
        subscription = self.open(topic)
        try:
            yield subscription
        finally:
            self.close(subscription)

    def open(self, topic: str) -> Subscription:
        """Subscribe until `close`."""
        if (entry := self._topics.get(topic)) is None:
            entry = self._topics[topic] = _Topic(topic)
        entry.subscribers += 1
        return Subscription(entry)

    def close(self, subscription: Subscription) -> None:
        """End a subscription that `open` began."""
        entry = subscription.topic
        entry.subscribers -= 1
        if not entry.subscribers:
            del self._topics[entry.name]

    def wake(self, topic: str) -> None:
        """Wake the topic's subscribers in this process."""
        if (entry := self._topics.get(topic)) is not None:
            _wake(entry)

    def wake_all(self) -> None:
        """Wake everyone: something may have been missed."""
        for entry in self._topics.values():
            _wake(entry)


def _wake(entry: _Topic) -> None:
    entry.version += 1
    for woken in entry.waiters:
        if not woken.done():
            woken.set_result(True)
    entry.waiters.clear()
