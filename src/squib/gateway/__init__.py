"""A sandbox's only way out: for each machine a unix socket, behind it a reverse proxy to the routes that it may use.

A route's prefix (`/anthropic/…`) names an upstream; the headers that hold its key are added here, outside the
sandbox, and never logged, told or sent back. Bodies stream both ways. Whatever a sandbox sends is hostile: its
requests are parsed, bounded and written anew, so that nothing is smuggled past a route.

Does: sockets by machine (`Gateway`), the rules of what passes (`route`), one exchange at a time (`proxy`). Must
not: know tasks, drivers or settings, follow redirects, keep anything on disk, let a machine reach another's socket.
Imports contracts, h11 and httpx2; the host and the composition in `cli` import it.

Its place for what is to come: egress rules beside `route.match`; metering and budgets around `proxy.Exchange`, which
sees each request's machine, route and bytes; git credentials as one more kind of route. None of it exists yet.
"""

from squib.gateway.gateway import Gateway
from squib.gateway.route import Route

__all__ = ["Gateway", "Route"]
