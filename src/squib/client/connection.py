"""What both clients know of a server: its address, the token, and how httpx2 is set up for it. No I/O."""

import ipaddress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from squib.client.endpoints import Call, Reply
from squib.client.errors import ServerUnreachable
from squib.contracts.errors import InvalidRequest, SquibError

#: The server sends a heartbeat every 15 seconds: silence for three of them is a dead connection.
STREAM_SECONDS = 45.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where squib is. `token` is what `squib token create` gave; `attempts` bounds how often a request is sent."""

    url: str
    token: str | None = field(default=None, repr=False)
    timeout: float = 30.0  # seconds without a byte
    attempts: int = 4

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            message = "must be http://HOST:PORT or https://HOST"
            raise InvalidRequest(f"url: {message}", fields={"url": message})

    def options(self) -> dict[str, Any]:
        """Arguments for httpx2's clients. A loopback server is never reached through a proxy."""
        headers = {"Accept": "application/json", "User-Agent": "squib"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return {
            "base_url": self.url,
            "headers": headers,
            "timeout": self.timeout,
            "trust_env": not self.local,
            "verify": self.url.startswith("https:"),
            "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=20),
        }

    @property
    def local(self) -> bool:
        """Whether the server is on this machine."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def unreachable(self, error: Exception) -> SquibError:
        """The error for a connection that failed with `error`."""
        return ServerUnreachable(f"{self.url}: {error or type(error).__name__}")


def arguments(call: Call[Any]) -> dict[str, Any]:
    """A call as arguments of httpx2's `request`, `stream` and `build_request`."""
    return {
        "method": call.method,
        "url": call.path,
        "params": list(call.params),
        "headers": dict(call.headers),
        "content": call.body,
    }


def reply(response: httpx2.Response) -> Reply:
    """An answer whose body has been read."""
    return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)
