"""The rooms put together: what each is told, in which order they open, and how they end."""

import contextlib
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from squib.agents import registry as agents
from squib.api import ApiConfig
from squib.api.config import LOOPBACK_HOSTS
from squib.gateway import Gateway, Route
from squib.host import Host, HostConfig, admission
from squib.host.drivers.registry import DRIVERS
from squib.host.images import Images
from squib.orchestrator.base import Orchestrator
from squib.orchestrator.local import LocalOrchestrator
from squib.orchestrator.remote import RemoteOrchestrator
from squib.queue import registry as queues
from squib.queue.base import Queue
from squib.scheduler import SchedulerConfig
from squib.settings import Settings
from squib.store import Store

#: Where `npm install --prefix` of an administrator usually puts the agents' programs, where the settings say nothing.
TOOLS = Path("/opt/squib-tools")


@dataclass(frozen=True, slots=True)
class Installation:
    """The settings with the installation's key."""

    settings: Settings
    key: bytes = field(repr=False)


def host_config(installation: Installation, *, driver: str | None = None) -> HostConfig:
    """What the host is told. `driver` overrides the settings."""
    settings, sandbox = installation.settings, installation.settings.sandbox
    return HostConfig(
        state_dir=settings.state_dir,
        key=installation.key,
        driver=driver or sandbox.driver,
        pool_size=min(sandbox.pool_size, sandbox.max_machines),
        max_machines=sandbox.max_machines,
        tools=sandbox.tools or (TOOLS if TOOLS.is_dir() else None),
        guest_python=sandbox.python,
        uid_base=sandbox.uid_base,
        uid_count=sandbox.uid_count,
        lease_seconds=sandbox.lease_seconds,
        agents=settings.agents,
        image=sandbox.image,
    )


def daemon_config(installation: Installation, *, driver: str | None = None) -> HostConfig:
    """What the host of a daemon is told: it promises no more than it has, and its sandboxes outlive it."""
    daemon = installation.settings.daemon
    return replace(
        host_config(installation, driver=driver),
        cpu=admission.own_cpu() * daemon.cpu_overcommit,
        memory=daemon.memory or admission.own_memory(),
        disk=daemon.disk,
        keep_machines=True,
    )


def offered(own: str) -> tuple[str, ...]:
    """The drivers that a task may name beside the host's own: none that isolates less. The host is their judge."""
    names = tuple(DRIVERS)  # strongest first
    return names[: names.index(own) + 1]


def routes(settings: Settings) -> dict[str, Route]:
    """Where the gateway sends model calls, and what it adds to them outside the sandbox."""
    anthropic = settings.providers.anthropic
    if anthropic.api_key is None:
        return {}
    headers = {"x-api-key": anthropic.api_key.get_secret_value()}
    return {"anthropic": Route(anthropic.base_url, headers, ("authorization", "x-api-key"))}


def api_config(
    installation: Installation,
    *,
    only: tuple[str, ...] | None,
    drivers: tuple[str, ...] = (),
    images: Images | None = None,
) -> ApiConfig:
    """What the API is told. `only`: the agents that may run; absent: all that there are. `images`: those of its host,
    where that is in the same process.
    """
    settings = installation.settings
    own = () if settings.host in ("0.0.0.0", "::") else (settings.host,)
    known = tuple(agents.names()) if only is None else only
    return ApiConfig(
        key=installation.key,
        agents=known,
        default_agent=settings.agent if settings.agent in known else known[0],
        drivers=drivers or tuple(DRIVERS),
        images=images,
        allowed_hosts=tuple(dict.fromkeys((*LOOPBACK_HOSTS, *own, *settings.allowed_hosts))),
    )


def scheduler_config(installation: Installation, *, default_agent: str | None = None) -> SchedulerConfig:
    """What the scheduler is told."""
    settings, scheduler = installation.settings, installation.settings.scheduler
    most = settings.sandbox.max_machines if settings.host_url is None else scheduler.concurrency
    return SchedulerConfig(
        key=installation.key,
        state_dir=settings.state_dir,
        default_agent=default_agent or settings.agent,
        # Whoever only waits for a machine holds a place for nothing.
        concurrency=min(scheduler.concurrency, most),
        lease_seconds=scheduler.lease_seconds,
        save_seconds=scheduler.save_seconds,
        max_attempts=scheduler.max_attempts,
        suspend_seconds=scheduler.suspend_after_seconds,
        put_away_seconds=scheduler.put_away_after_seconds,
        retention_seconds=settings.retention_days * 86_400,
    )


@contextlib.asynccontextmanager
async def middle(installation: Installation) -> AsyncIterator[tuple[Store, Queue]]:
    """The store and the queue, which all roles share."""
    settings = installation.settings
    async with Store.open(settings.database, files=settings.state_dir / "files") as store:
        queue = queues.make(settings.queue, store)
        try:
            yield store, queue
        finally:
            await queue.close()


@contextlib.asynccontextmanager
async def sandboxes(
    installation: Installation, *, driver: str | None = None, config: HostConfig | None = None
) -> AsyncIterator[Host]:
    """The gateway and the host. Raises DriverUnavailable where nothing boots."""
    told = config or host_config(installation, driver=driver)
    async with Gateway(routes(installation.settings)) as gateway, Host(told, gateway) as host:
        yield host


@contextlib.asynccontextmanager
async def orchestrator(installation: Installation) -> AsyncIterator[tuple[Orchestrator, dict[str, str]]]:
    """The scheduler's sandboxes, here or on the host that the settings name, and what to say of them.

    Raises DriverUnavailable where nothing boots here, HostUnreachable or Unauthenticated of a host elsewhere.
    """
    if (url := installation.settings.host_url) is None:
        async with sandboxes(installation) as host:
            yield LocalOrchestrator(host), {"driver": host.driver}
        return
    async with RemoteOrchestrator(url, installation.key) as remote:
        status = await remote.status()
        yield remote, {"host": url, "driver": status.capability.driver}


def settle() -> None:
    """Start-up is over: leave what it made, which lives as long as the process, out of later garbage collections.

    Each full one went through all modules and stopped the event loop for 30 ms and more.
    """
    gc.collect()
    gc.freeze()
