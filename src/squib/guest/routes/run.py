"""`/run` and `/run/cancel`."""

from typing import TYPE_CHECKING

from squib.contracts.guest import CancelRequest, RunRequest
from squib.guest.exchange import Exchange

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor


async def start(guest: "Supervisor", exchange: Exchange) -> None:
    """`POST /run`."""
    exchange.answer(guest.runs.start(await exchange.document(RunRequest)), 202)


async def status(guest: "Supervisor", exchange: Exchange) -> None:
    """`GET /run`."""
    exchange.answer(guest.runs.status())


async def cancel(guest: "Supervisor", exchange: Exchange) -> None:
    """`POST /run/cancel`."""
    exchange.answer(await guest.runs.cancel(await exchange.document(CancelRequest)))
