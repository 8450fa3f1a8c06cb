"""What makes a clone of a snapshot a stranger to its siblings: entropy, clock, names, token, epoch."""

import os
import sys
from typing import TYPE_CHECKING, Any

from squib.contracts.errors import InvalidRequest
from squib.contracts.event import EventType
from squib.contracts.guest import Resume
from squib.guest import rights

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

_TOKEN_DIGITS = 64


async def resume(guest: "Supervisor", request: Resume) -> None:
    """Do each step as far as this sandbox allows; one `runtime.log` event tells of those that it did not.

    Raises InvalidRequest before anything is changed.
    """
    identity = {
        "entropy": request.entropy,
        "time": request.time,
        "hostname": request.hostname,
        "machine_id": request.machine_id.lower(),
    }
    bad = rights.wrong(identity)
    if len(request.token_sha256) != _TOKEN_DIGITS or not set(request.token_sha256) <= set("0123456789abcdefABCDEF"):
        bad.append("token_sha256")
    if bad:
        raise InvalidRequest(f"{bad[0]}: has the wrong form", fields=dict.fromkeys(bad, "has the wrong form"))
    failed = await _renew_machine(guest, identity)
    _renew_random_state(request.entropy)
    guest.become(request)
    if failed:
        message = f"after the restore, this sandbox did not allow: {', '.join(failed)}"
        guest.events.record(EventType.RUNTIME_LOG, {"level": "warning", "message": message})


async def _renew_machine(guest: "Supervisor", identity: dict[str, Any]) -> list[str]:
    """Renew what the kernel holds; gives what failed."""
    if guest.helper is not None:
        return await guest.helper.perform(identity)
    if os.getpid() == 1:
        return rights.perform(identity)
    why = "(this guest is not process 1, so the machine is not its own)"
    return rights.perform(identity, rights.STEPS[:1]) + [f"{name} {why}" for name in rights.STEPS[1:]]


def _renew_random_state(entropy: str) -> None:
    """Renew what this process itself draws random or unique values from, where that has been loaded."""
    if (random := sys.modules.get("random")) is not None:
        random.seed(entropy.encode() + os.urandom(32))
    if (tempfile := sys.modules.get("tempfile")) is not None:
        tempfile._name_sequence = None  # type: ignore[attr-defined]
    if (uuid := sys.modules.get("uuid")) is not None:
        uuid._node = uuid._last_timestamp = None  # type: ignore[attr-defined]
