"""How squib's own side reaches a guest: HTTP/1.1 over a unix socket or TCP, kept alive, with everything bounded.

Does: the guest's contract as one class (`GuestLink`), its token, the parsing of its event stream, its terminal's
WebSocket. Believes nothing that a guest says: sizes, counts, types and characters are checked before a value is
handed on, and rubbish becomes GuestUnreachable. Must not: store anything, know tasks or drivers, run commands of
its own. Imports contracts, h11 and wsproto; the host, the scheduler and the API import it.
"""

from squib.link.client import GuestLink
from squib.link.pty import Pty
from squib.link.token import guest_token, host_token, token_digest

__all__ = ["GuestLink", "Pty", "guest_token", "host_token", "token_digest"]
