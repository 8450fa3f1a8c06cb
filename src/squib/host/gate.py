"""What a host needs of the gateway: a listening socket for each machine, opened and closed."""

from pathlib import Path
from typing import Protocol


class Gate(Protocol):
    """`squib.gateway.Gateway` is one. Both are idempotent."""

    async def open(self, machine_id: str, socket: Path, uid: int | None) -> None:
        """Listen at `socket`, for that user alone, replacing a stale one."""

    async def close(self, machine_id: str) -> None:
        """Stop listening; an unknown machine is fine."""
