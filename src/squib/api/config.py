"""What the API must be told: names that are known here, bounds, and who may call it under which host name."""

from dataclasses import dataclass, field
from typing import Protocol

from squib import __version__

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


class Images(Protocol):
    """The images that tasks may name; they come and go while the API runs. Both look at a disk."""

    def names(self) -> list[str]:
        """All that have one, in order."""

    def has(self, image: str) -> bool:
        """Whether a name or digest means one."""


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Settings of one API process. Sizes are bytes."""

    key: bytes = field(repr=False)  # the installation's: from it comes each guest's token
    agents: tuple[str, ...] = ("mock",)  # empty: any name, for a scheduler elsewhere to judge
    default_agent: str = "mock"
    drivers: tuple[str, ...] = ()  # empty: any name
    images: Images | None = None  # absent: any name, for a host elsewhere to judge
    version: str = __version__
    allowed_hosts: tuple[str, ...] = LOOPBACK_HOSTS  # of the Host header, without port; "*": any
    allowed_origins: tuple[str, ...] = ()  # `https://host[:port]` of pages beside our own that may use a cookie
    max_body_bytes: int = 2 * 1024 * 1024  # of a JSON body
    max_upload_bytes: int = 1024 * 1024 * 1024
    max_file_bytes: int = 256 * 1024 * 1024  # of one file written into a sandbox
    max_terminals: int = 8  # open WebSockets a task, in this process
    heartbeat_seconds: float = 15.0  # a comment on a silent event stream
