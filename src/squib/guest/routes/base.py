"""Health, the log, the event stream, and the resumption after a restore."""

from typing import TYPE_CHECKING

from squib.contracts.guest import SSE, Resume
from squib.guest import lazy
from squib.guest.events import HEARTBEAT_SECONDS
from squib.guest.exchange import Exchange

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor


async def health(guest: "Supervisor", exchange: Exchange) -> None:
    """`GET /health`."""
    exchange.answer(guest.health())


async def logs(guest: "Supervisor", exchange: Exchange) -> None:
    """`GET /logs`."""
    exchange.reply(200, guest.journal.text().encode("utf-8", "replace"), "text/plain; charset=utf-8")


async def events(guest: "Supervisor", exchange: Exchange) -> None:
    """`GET /events`: what is there at once, then as it comes, a comment when nothing does; it never ends."""
    reader = guest.events.attach(exchange.query.get("after") or None)
    try:
        exchange.start(200, SSE, [("cache-control", "no-store")])
        while True:
            frames = reader.read()
            if frames:
                exchange.send(frames)
                await exchange.drain()
            elif not await reader.wait(HEARTBEAT_SECONDS):
                exchange.send(b":\n\n")
    finally:
        guest.events.detach(reader)


async def resume(guest: "Supervisor", exchange: Exchange) -> None:
    """`POST /resume`."""
    request = await exchange.document(Resume)
    await lazy.member("squib.guest.resume:resume")(guest, request)
    exchange.answer(guest.health())
