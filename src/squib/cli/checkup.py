"""What `squib doctor` looks at: each thing works, or says why not and what to do."""

import asyncio
import os
import platform
import re
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg

from squib.agents import registry as agents
from squib.agents.base import Agent
from squib.cli import compose
from squib.contracts.errors import SquibError
from squib.contracts.machine import Capability, Isolation
from squib.host import probe_all
from squib.host.drivers.registry import AUTOMATIC
from squib.host.images import Images
from squib.host.probes import passed_by
from squib.settings import Settings
from squib.store import Store

_OLDEST_GIT = (2, 31)
_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing. Of each kind with `needed`, at least one must work for tasks to run."""

    kind: str
    name: str
    works: bool
    detail: str = ""
    advice: str | None = None
    needed: bool = True
    capability: Capability | None = None  # of a driver


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything; never raises for what is broken."""
    state = _state_dir(settings)
    drivers = await _drivers(settings) if state.works else []
    return [
        state,
        *drivers,
        *_choice(settings, drivers),
        *await _image(settings),
        *[await _agent(settings, agents.get(name)) for name in agents.names()],
        *_providers(settings),
        await _database(settings),
        await _git(),
        Finding("python", platform.python_version(), True, f"{platform.python_implementation()}, runs squib itself"),
    ]


def _state_dir(settings: Settings) -> Finding:
    directory = settings.state_dir
    advice = "Set SQUIB_STATE_DIR to a directory that you may write, or correct its owner."
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            free = shutil.disk_usage(directory).free
    except OSError as error:
        return Finding("state", str(directory), False, str(error.strerror), advice)
    return Finding("state", str(directory), True, f"can be written, {free / 1e9:.0f} GB free")


async def _drivers(settings: Settings) -> list[Finding]:
    installation = compose.Installation(settings, b"")
    try:
        found = await probe_all(compose.host_config(installation))
    except SquibError as error:
        return [Finding("driver", settings.sandbox.driver, False, error.detail, error.advice)]
    return [_driver(capability) for capability in found]


def _driver(capability: Capability) -> Finding:
    isolates = capability.isolation is not Isolation.NONE
    isolation = f"isolation: {capability.isolation.name.lower().replace('_', ' ')}"
    if not capability.works:
        why = f"{isolation}; {capability.why_not or 'does not boot'}"
        return Finding("driver", capability.driver, False, why, capability.advice, isolates, capability)
    can = [word for word, does in _abilities(capability) if does]
    parts = [
        capability.version or "",
        isolation,
        f"boots in {capability.boot_ms:.0f} ms" if capability.boot_ms is not None else "",
        f"can {', '.join(can)}" if can else "can't freeze machines",
        "makes sandboxes of images alone" if capability.needs_image else "",
        "emulated, since there is no hardware virtualisation here" if capability.emulated else "",
        *(f"limits {limit}" for limit in capability.limits),
        *(f"lacks {what}" for what in capability.lacks),
    ]
    detail = ", ".join(filter(None, parts))
    return Finding("driver", capability.driver, True, detail, needed=isolates, capability=capability)


def _abilities(capability: Capability) -> list[tuple[str, bool]]:
    return [("snapshot", capability.snapshot), ("suspend", capability.pause), ("fork", capability.fork)]


def _choice(settings: Settings, drivers: list[Finding]) -> list[Finding]:
    """What `squib up` would take, and why that."""
    named = settings.sandbox.driver
    if named != "auto":
        works = any(finding.works for finding in drivers if finding.name == named)
        return [Finding("chosen", named, works, "named by SQUIB_SANDBOX__DRIVER", needed=False)]
    by_name = {finding.name: finding for finding in drivers}
    candidates = [by_name[name] for name in AUTOMATIC if name in by_name]
    passed: list[str] = []
    for finding in candidates:
        why_not = _why_not(finding, host_root=settings.sandbox.image is None)
        if why_not is None:
            more = f"; stronger, and not taken: {'; '.join(passed)}" if passed else ""
            return [Finding("chosen", finding.name, True, f"the strongest that works here{more}", needed=False)]
        passed.append(f"{finding.name} ({why_not})")
    advice = "Follow the advice for one of the drivers."
    return [Finding("chosen", "none", False, f"none that auto may take works: {'; '.join(passed)}", advice, False)]


def _why_not(finding: Finding, *, host_root: bool) -> str | None:
    """Why `auto` does not take this driver; None where it does."""
    if finding.capability is None or not finding.works:
        return "does not work"
    return passed_by(finding.capability, host_root=host_root)


async def _image(settings: Settings) -> list[Finding]:
    """What a task's sandbox is made of where the task does not say."""
    name = settings.sandbox.image
    if name is None:
        return [Finding("image", "host", True, "the host's own programs, read-only, for tasks that name none")]
    works = await asyncio.to_thread(Images(settings.state_dir).has, name)
    advice = f"'squib image build {name}' may make it; 'squib image list' shows those that are here."
    detail = "for tasks that name none" if works else "named by SQUIB_SANDBOX__IMAGE, and not here"
    return [Finding("image", name, works, detail, None if works else advice)]


async def _agent(settings: Settings, agent: Agent) -> Finding:
    kind = "agent"
    if agent.program:
        tools = settings.sandbox.tools or compose.TOOLS
        inside = f"{tools}/bin:{tools}/node_modules/.bin:/usr/local/bin:/usr/bin:/bin"
        program = shutil.which(agent.program, path=inside)
        if program is None:
            return Finding(
                kind, agent.name, False, f"{agent.program} is not in {tools}, nor in /usr", agent.install, False
            )
        version = await _said(program, "--version")
        if version is None:
            return Finding(kind, agent.name, False, f"{program} --version fails", agent.install, False)
    else:
        program, version = "", "needs no program"
    if agent.provider and agent.provider not in compose.routes(settings):
        advice = f"Set SQUIB_PROVIDERS__{agent.provider.upper()}__API_KEY; it never enters a sandbox."
        return Finding(kind, agent.name, False, f"{version}, but no key for {agent.provider} is set", advice, False)
    return Finding(kind, agent.name, True, " ".join(filter(None, (version, program))))


def _providers(settings: Settings) -> list[Finding]:
    return [
        Finding("provider", name, True, f"a key is set; calls go to {route.upstream}", needed=False)
        for name, route in compose.routes(settings).items()
    ]


async def _database(settings: Settings) -> Finding:
    name = "sqlite" if settings.sqlite else "postgresql"
    advice = "Correct SQUIB_DATABASE_URL, or unset it for SQLite in the state directory."
    try:
        async with asyncio.timeout(_SECONDS):
            version = await (_sqlite() if settings.sqlite else _postgresql(settings.database))
    except (SquibError, psycopg.Error) as error:
        return Finding("database", name, False, str(error), advice)
    except TimeoutError:
        return Finding("database", name, False, f"no answer within {_SECONDS:g} seconds", advice)
    return Finding("database", name, True, version)


async def _sqlite() -> str:
    """Tried on a fresh file: one in use is left alone."""
    with tempfile.TemporaryDirectory(prefix="squib-doctor-") as scratch:
        async with Store.open(f"sqlite:///{scratch}/squib.db", files=Path(scratch) / "files") as store:
            await store.ping()
    return f"SQLite {sqlite3.sqlite_version}"


async def _postgresql(url: str) -> str:
    """Asked for its version alone: looking must not bring a schema up to date."""
    address = re.sub(r"^postgresql\+\w+:", "postgresql:", url)
    async with await psycopg.AsyncConnection.connect(address) as connection:
        number = connection.info.server_version
    return f"PostgreSQL {number // 10_000}.{number % 10_000}, answers"


async def _git() -> Finding:
    said = await _said("git", "--version")
    found = re.search(r"(\d+)\.(\d+)", said or "")
    if found is None:
        return Finding("git", "git", False, "is not there", "Install git.")
    if (int(found[1]), int(found[2])) < _OLDEST_GIT:
        return Finding("git", "git", False, f"{found[0]} is too old", "Install git 2.31 or newer.")
    return Finding("git", "git", True, said or "")


async def _said(*command: str) -> str | None:
    """The first line that a program prints; None where it fails, or takes too long."""
    quiet = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=quiet, stdout=asyncio.subprocess.PIPE, stderr=quiet, cwd="/", env=_clean()
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[0] if process.returncode == 0 and lines else None


def _clean() -> dict[str, str]:
    """Other programs see no key of ours."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
