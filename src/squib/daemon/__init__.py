"""`squib host`: a host's machines over HTTP, and the way through to each guest.

Does: the routes of `contracts.host` over one `Host`; tokens, bounds, problem documents, metrics; a proxy to each
guest, whose address comes from the host's own books and never from a request. Must not: know tasks, read what passes
to and from a guest, hold a model provider's key, decide which sandbox is wanted. Imports contracts, host, link and
the orchestrator's `local`; the composition root imports it. `orchestrator.remote` speaks to it.
"""

from squib.daemon.app import create_daemon

__all__ = ["create_daemon"]
