"""What a host is told: where its state lies, which driver, how many machines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HostConfig:
    """Settings of one host. One process at a time may use a state directory."""

    state_dir: Path  # must be traversable by other users when squib runs as root
    key: bytes = field(repr=False)  # the installation's: the guests' tokens derive from it
    driver: str = "auto"  # a driver's name, or the strongest that boots; `process` is never picked by itself
    pool_size: int = 2  # guests that wait, ready
    max_machines: int = 64  # the pool's included
    cpu: float | None = None  # cores that all machines together may be promised; None: no bound
    memory: int | None = None  # MiB, likewise
    disk: int | None = None  # MiB, likewise
    tools: Path | None = None  # the agents' programs, seen read-only at /opt/squib/tools
    guest_python: str | None = None  # in the host's own root; absent: the first CPython >= 3.11 that machines can run
    uid_base: int = 200_000  # as root, each machine runs under a user of its own from here on
    uid_count: int = 1000
    lease_seconds: float = 120.0  # a guest that nobody asks after for so long ends itself
    agents: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # settings that the guests may see
    image: str | None = None  # name or digest, for tasks that name none; absent: the host's own /usr, read-only
    keep_machines: bool = False  # leave claimed machines running at the end, for the next process to adopt
