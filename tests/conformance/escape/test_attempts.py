"""Every attempt, from inside a machine of every driver that isolates: none may succeed."""

import os
from pathlib import Path
from typing import Any

import pytest

from squib.contracts.machine import Isolation
from squib.host import processes
from tests.conformance.escape.arena import Arena
from tests.conformance.escape.attempts.runner import everything

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_driver_claims_isolation(attacked: Arena) -> None:
    assert attacked.host.capability.isolation > Isolation.NONE


@pytest.mark.parametrize("attempt", everything())
async def test_it_is_held_off(outcomes: dict[str, dict[str, Any]], attempt: str) -> None:
    assert outcomes[attempt]["outcome"] in ("held", "inapplicable"), outcomes[attempt]["detail"]


async def test_nobody_came_to_the_hosts_sockets(attacked: Arena, outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes
    assert attacked.baits.asked == []


async def test_afterwards_both_machines_go_on(attacked: Arena, outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes
    for machine in (attacked.machine, attacked.neighbour):
        assert (await attacked.run("echo here", machine)).stdout == "here\n"
    assert (await attacked.run("cat secret", attacked.neighbour)).stdout == attacked.baits.secret


@pytest.mark.needs("root")
async def test_seen_from_outside_it_ranks_below_others(attacked: Arena, outcomes: dict[str, dict[str, Any]]) -> None:
    """Whatever a kernel of its own let it set: its processes out here are ordinary ones of an ordinary user."""
    assert outcomes
    uid = attacked.machine.uid
    assert uid
    pids = processes.of_uid(uid)
    assert pids
    for pid in pids:
        assert os.getpriority(os.PRIO_PROCESS, pid) >= 0
        assert os.sched_getscheduler(pid) == os.SCHED_OTHER
        assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= 0
