"""What the API must be told: names that are known here, bounds, and who may call it under which host name."""

from dataclasses import dataclass, field

from squib import __version__

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Settings of one API process. Sizes are bytes."""

    key: bytes = field(repr=False)  # the installation's: from it comes each guest's token
    agents: tuple[str, ...] = ("mock",)  # empty: any name, for a scheduler elsewhere to judge
    default_agent: str = "mock"
    drivers: tuple[str, ...] = ()  # empty: any name
    version: str = __version__
    allowed_hosts: tuple[str, ...] = LOOPBACK_HOSTS  # of the Host header, without port; "*": any
    allowed_origins: tuple[str, ...] = ()  # `https://host[:port]` of pages beside our own that may use a cookie
    max_body_bytes: int = 2 * 1024 * 1024  # of a JSON body
    max_upload_bytes: int = 1024 * 1024 * 1024
    max_file_bytes: int = 256 * 1024 * 1024  # of one file written into a sandbox
    max_terminals: int = 8  # open WebSockets a task, in this process
    heartbeat_seconds: float = 15.0  # a comment on a silent event stream
