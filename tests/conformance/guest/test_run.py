"""Runs: their outcomes, their events, and that nothing of them is left."""

import time

import pytest

from squib.contracts import ids
from squib.contracts.errors import InvalidRequest, NotFound, RunActive
from squib.contracts.event import MAX_DATA_BYTES
from squib.contracts.guest import CancelRequest, RunRequest, RunState
from tests.conformance.guest.conftest import Guest

#: The agent's own standard output, from a command that it runs.
OUT = "/proc/$PPID/fd/1"


async def test_good_run(guest: Guest) -> None:
    run_id = await guest.start("improve it")
    status, events = await guest.finished(run_id)
    assert status.state is RunState.SUCCEEDED, status
    assert (status.exit_code, status.last_event) == (0, events[-1].n)
    assert status.result and status.session_id
    assert [e.n for e in events] == list(range(events[0].n, events[0].n + len(events)))
    types = [e.type for e in events]
    assert types[0] == "agent.started" and types[-1] == "agent.completed"
    assert "git.commit" in types and "agent.message" in types
    assert events[0].data["pid"] == status.pid
    assert "AGENT_TASK.md" in [e.path for e in (await guest.link.list()).entries]


async def test_same_id_is_the_same_run(guest: Guest) -> None:
    request = RunRequest(ids.new_id("run"), "mock", "once")
    first = await guest.link.run(request)
    again = await guest.link.run(request)
    assert again.pid == first.pid
    status, _ = await guest.finished(request.run_id)
    assert await guest.link.run(request) == status


async def test_one_at_a_time(guest: Guest) -> None:
    run_id = await guest.start("mock:sleep=30")
    with pytest.raises(RunActive):
        await guest.link.run(RunRequest(ids.new_id("run"), "mock", "another"))
    assert (await guest.link.health()).run_id == run_id
    await guest.link.cancel(CancelRequest(run_id))
    assert (await guest.link.health()).run_id is None


async def test_failure_is_an_outcome(guest: Guest) -> None:
    status, events = await guest.finished(await guest.start("mock:fail"))
    assert status.state is RunState.FAILED and status.reason
    assert events[-1].type == "agent.failed"
    assert events[-1].data["reason"] == status.reason


async def test_crash_is_an_outcome(guest: Guest) -> None:
    status, _ = await guest.finished(await guest.start("mock:crash"))
    assert (status.state, status.exit_code) == (RunState.FAILED, 137)


async def test_follow_up_keeps_the_session(guest: Guest) -> None:
    first, _ = await guest.finished(await guest.start("first"))
    second, _ = await guest.finished(await guest.start("second", session_id=first.session_id))
    assert second.session_id == first.session_id
    assert second.result and "turn 2" in second.result


async def test_timeout(guest: Guest) -> None:
    status, events = await guest.finished(await guest.start("mock:sleep=60", seconds=1))
    assert status.state is RunState.TIMED_OUT
    assert events[-1].type == "agent.failed"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("child", "sleep 40047"),
        ("own session", "setsid sleep 40047"),
        ("double fork", "(setsid sleep 40047 >/dev/null 2>&1 &) ; sleep 30"),
        ("unmarked orphan", "(env -i setsid sleep 40047 >/dev/null 2>&1 &) ; sleep 30"),
        ("ignores SIGTERM", "trap '' TERM; while :; do sleep 40047; done"),
        ("stopped", "sleep 40047 & sleep 0.2; kill -STOP $!; sleep 30"),
        ("fork bomb in small", "i=0; while [ $i -lt 60 ]; do (setsid sleep 40047 &) ; i=$((i+1)); done; sleep 30"),
    ],
)
async def test_cancel_ends_the_whole_tree(guest: Guest, name: str, command: str) -> None:
    run_id = await guest.start(f"mock:run={command}")
    while not await guest.running("sleep", "40047"):
        await guest.link.health()
    began = time.monotonic()
    status = await guest.link.cancel(CancelRequest(run_id, grace_seconds=0.5))
    assert time.monotonic() - began < 5
    assert status.state is RunState.CANCELLED
    assert await guest.running("sleep", "40047") == []
    again = await guest.link.cancel(CancelRequest(run_id))
    assert again == status


async def test_what_a_run_leaves_behind_ends_with_it(guest: Guest) -> None:
    status, _ = await guest.finished(await guest.start("mock:spawn"))
    assert status.state is RunState.SUCCEEDED
    assert await guest.running("sleep", "300") == []


async def test_a_users_command_outlives_a_run(guest: Guest) -> None:
    await guest.out("setsid sleep 77047 >/dev/null 2>&1 &")
    await guest.finished(await guest.start("anything"))
    (left,) = await guest.running("sleep", "77047")
    await guest.out(f"kill -9 {left}")


async def test_cancel_of_an_unknown_run(guest: Guest) -> None:
    with pytest.raises(NotFound):
        await guest.link.cancel(CancelRequest("run-unknown"))


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("agent", {"agent": "nobody"}),
        ("prompt", {"prompt": ""}),
        ("seconds", {"seconds": 0}),
        ("run_id", {"run_id": ""}),
        ("env", {"env": {"A=B": "x"}}),
    ],
)
async def test_bad_requests_name_the_field(guest: Guest, field: str, changed: dict[str, object]) -> None:
    good: dict[str, object] = {"run_id": ids.new_id("run"), "agent": "mock", "prompt": "x"}
    with pytest.raises(InvalidRequest) as caught:
        await guest.link.run(RunRequest(**{**good, **changed}))  # type: ignore[arg-type]
    assert field in caught.value.fields
    assert (await guest.link.health()).run_id is None


async def test_a_line_of_ten_megabytes(guest: Guest) -> None:
    prompt = f"mock:run=head -c 10000000 /dev/zero | tr '\\0' x > {OUT}; echo > {OUT}"
    status, events = await guest.finished(await guest.start(prompt))
    assert status.state is RunState.SUCCEEDED, status
    (long,) = [e for e in events if e.type == "agent.log"]
    assert long.data["truncated"] is True
    assert 1000 < len(long.data["text"]) <= MAX_DATA_BYTES


async def test_a_line_beyond_all_bounds(guest: Guest) -> None:
    prompt = f"mock:run=head -c 40000000 /dev/zero | tr '\\0' x > {OUT}; echo > {OUT}"
    status, events = await guest.finished(await guest.start(prompt))
    assert status.state is RunState.SUCCEEDED, status
    (long,) = [e for e in events if e.type == "agent.log"]
    assert (long.data["truncated"], long.data["bytes"]) == (True, 40_000_000)


async def test_binary_output(guest: Guest) -> None:
    status, events = await guest.finished(
        await guest.start(f"mock:run=head -c 300000 /dev/urandom > {OUT}; echo > {OUT}")
    )
    assert status.state is RunState.SUCCEEDED, status
    assert any(e.type == "agent.log" for e in events)


async def test_standard_error_is_told(guest: Guest) -> None:
    _, events = await guest.finished(await guest.start("mock:run=echo 'to the side' > /proc/$PPID/fd/2"))
    assert {"stream": "stderr", "text": "to the side"} in [e.data for e in events if e.type == "agent.log"]


async def test_a_session_of_its_own_that_holds_the_output_open(guest: Guest) -> None:
    prompt = f"mock:run=setsid sleep 40047 > {OUT} 2>&1 &"
    began = time.monotonic()
    status, _ = await guest.finished(await guest.start(prompt))
    assert status.state is RunState.SUCCEEDED, status
    assert time.monotonic() - began < 20
    assert await guest.running("sleep", "40047") == []


async def test_the_environment_holds_nothing_of_the_guests(guest: Guest) -> None:
    _, events = await guest.finished(await guest.start("mock:run=env", env={"GIVEN": "yes"}))
    shown = next(e.data["text"] for e in events if e.type == "agent.output" and "PATH=" in str(e.data))
    names = {line.split("=")[0] for line in shown.splitlines()}
    assert "GIVEN" in names
    assert not {n for n in names if "TOKEN" in n or "KEY" in n or "PYTHON" in n}
