"""What a task is told when its machine dies, with a real machine of a kernel of its own; its neighbour's goes on."""

import os
import signal
from pathlib import Path

import pytest

from squib.contracts.task import TaskState
from tests.needs import OF_DRIVER
from tests.scheduler.stack import WAIT, stack


@pytest.mark.parametrize(
    "driver", [pytest.param(n, marks=pytest.mark.needs(*OF_DRIVER.get(n, ()))) for n in ("gvisor", "container")]
)
async def test_the_death_of_a_machine_is_its_own_tasks_event(shared_tmp: Path, driver: str) -> None:
    async with stack(shared_tmp, driver=driver, max_attempts=1) as squib:
        squib.start()
        doomed, neighbour = [await squib.submit(f"Wait.\n{WAIT}") for _ in range(2)]
        for task_id in (doomed, neighbour):
            await squib.until_type(task_id, "agent.started")
        machine = await squib.host.get((await squib.sandbox(doomed)).id)
        assert machine is not None and machine.pid is not None
        os.kill(machine.pid, signal.SIGKILL)
        task = await squib.ended(doomed)
        assert task.state is TaskState.FAILED
        assert task.error is not None and task.error["detail"]
        assert "sandbox.lost" in await squib.types(doomed)
        await squib.go(neighbour)
        task = await squib.ended(neighbour)
        assert task.state is TaskState.SUCCEEDED, task.error
        assert "sandbox.lost" not in await squib.types(neighbour)
        for task_id in (doomed, neighbour):
            await squib.clean(task_id)
