"""Who may ask: whoever has a token that derives from the installation's key. Tokens are compared in constant time."""

import hmac
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from squib.contracts import ids
from squib.contracts.errors import GuestUnreachable, NotFound, Unauthenticated
from squib.contracts.machine import Machine, MachinePhase
from squib.host import Host
from squib.link import guest_token, host_token


@dataclass(frozen=True, slots=True)
class Access:
    """The judge of tokens of one host."""

    key: bytes = field(repr=False)

    def check_host(self, connection: HTTPConnection) -> None:
        """Raise Unauthenticated unless the request has the host's token."""
        if not _same(_bearer(connection), host_token(self.key)):
            raise Unauthenticated("this needs the host's token", advice=_ADVICE)

    async def guest(self, connection: HTTPConnection, host: Host) -> Machine:
        """The machine of the sandbox in the path, for whoever has that machine's token.

        Raises Unauthenticated, also where there is no such sandbox: a stranger does not learn which there are.
        GuestUnreachable where it is on disk.
        """
        machine = await host.get(sandbox_id(connection))
        known = machine.id if machine is not None else "no machine"
        if not _same(_bearer(connection), guest_token(self.key, known)) or machine is None:
            raise Unauthenticated("this needs the token of a guest that is here", advice=_ADVICE)
        if machine.phase is MachinePhase.SUSPENDED:
            raise GuestUnreachable("the sandbox is suspended", advice="Resume it first.")
        return machine


def sandbox_id(connection: HTTPConnection) -> str:
    """The id in the path. Raises NotFound where it is none."""
    text = str(connection.path_params["id"])
    if not ids.is_id(text, "sbx"):
        raise NotFound("this is no sandbox's id", advice="Sandboxes' ids begin with sbx-.")
    return text


def _bearer(connection: HTTPConnection) -> str:
    scheme, _, secret = connection.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


_ADVICE = "It derives from SQUIB_SECRET_KEY, which must be the same for all roles."
