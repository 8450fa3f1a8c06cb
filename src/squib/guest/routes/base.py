"""Health, the log, the event stream, the preparation for being frozen, and the resumption after it."""

from typing import TYPE_CHECKING

from squib.contracts import codec
from squib.contracts.guest import SSE, FreezeRequest, Resume
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


async def freeze(guest: "Supervisor", exchange: Exchange) -> None:
    """`POST /freeze`: once this is answered, the guest may be frozen at any time."""
    request = await exchange.document(FreezeRequest)
    await lazy.member("squib.guest.freeze:prepare")(guest, request)
    last = [("connection", "close")] if request.thaw is not None else []
    exchange.reply(200, codec.dumps(guest.health()), headers=last)
    if request.thaw is not None:
        guest.leave(request.thaw)


async def resume(guest: "Supervisor", exchange: Exchange) -> None:
    """`POST /resume`."""
    request = await exchange.document(Resume)
    await lazy.member("squib.guest.resume:resume")(guest, request)
    exchange.answer(guest.health())
