"""A real guest in a process of its own, and a task that has it as its sandbox."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from squib.contracts import codec
from squib.contracts.guest import GuestConfig
from squib.contracts.ids import new_id
from squib.contracts.sandbox import Sandbox, SandboxPhase
from squib.contracts.task import TaskState
from squib.link import GuestLink, guest_token, token_digest
from squib.store.tables import tasks
from tests.api.conftest import KEY, Api


@dataclasses.dataclass
class Guest:
    """Where it is."""

    workspace: Path
    task_id: str
    process: asyncio.subprocess.Process


@asynccontextmanager
async def guest_of_task(api: Api, directory: Path) -> AsyncIterator[Guest]:
    """A running task of alice's whose sandbox is a guest without any isolation."""
    machine, workspace = new_id("mch"), directory / "w"
    workspace.mkdir()
    token = guest_token(KEY, machine)
    sandbox_id, endpoint = new_id("sbx"), f"unix:{directory / 'guest.sock'}"
    config = GuestConfig(
        sandbox_id,
        token_digest(token),
        endpoint,
        workspace=str(workspace),
        state_dir=str(directory / "state"),
        home=str(directory / "home"),
    )
    (directory / "guest.json").write_bytes(codec.dumps(config))
    with (directory / "console.log").open("wb") as console:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "squib.guest",
            "serve",
            "--config",
            str(directory / "guest.json"),
            stdout=console,
            stderr=console,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
        )
    try:
        await _answering(endpoint, token)
        yield Guest(workspace, await task_in_sandbox(api, sandbox_id, machine, endpoint), process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def task_in_sandbox(api: Api, sandbox_id: str, machine_id: str, endpoint: str) -> str:
    """A running task of alice's, whose sandbox is said to be there."""
    task = await api.task()
    lease = await api.running(task)
    sandbox = Sandbox(sandbox_id, task, SandboxPhase.READY, machine_id, "process", "none", endpoint)
    await api.store.tasks.update(lease, sandbox_id=sandbox_id, sandbox=sandbox)
    return task


async def said_to_be(api: Api, task_id: str, state: TaskState, phase: SandboxPhase | None, how: str | None) -> None:
    """What the task's worker would write of it and its sandbox."""
    found = await api.store.tasks.sandbox(task_id)
    box = codec.dumps(dataclasses.replace(found, phase=phase)).decode() if found and phase else None
    written = {"state": state.value, "sandbox": box, "suspended": how}
    await api.store._database.write(
        lambda tx: tx.execute(tasks.update().where(tasks.c.id == task_id).values(written))
    )


async def _answering(endpoint: str, token: str) -> None:
    async with asyncio.timeout(20), GuestLink(endpoint, token) as link:
        while True:
            try:
                await link.health()
                return
            except Exception:
                await asyncio.sleep(0.02)
