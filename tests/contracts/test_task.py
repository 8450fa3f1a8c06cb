"""The table of task states, and the bounds of a task's fields."""

import pytest

from squib.contracts.errors import InvalidRequest
from squib.contracts.event import EventType
from squib.contracts.task import TRANSITIONS, Limits, Repository, SandboxRequest, TaskSpec, TaskState


def test_every_state_stands_in_the_table_and_has_its_event() -> None:
    assert set(TRANSITIONS) == set(TaskState)
    assert {s.event for s in TaskState} < set(EventType)


def test_terminal_states_are_final_and_reachable_from_everywhere_else() -> None:
    terminal = {s for s in TaskState if s.terminal}
    assert terminal == {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.TIMED_OUT}
    for state in set(TaskState) - terminal:
        assert {TaskState.FAILED, TaskState.CANCELLED, TaskState.TIMED_OUT} <= TRANSITIONS[state]


@pytest.mark.parametrize("ref", ["main", "feature/a-b", "v1.0", "0" * 40, "a.b", "é"])
def test_good_refs_pass(ref: str) -> None:
    assert Repository(url="https://h/r", ref=ref).ref == ref


@pytest.mark.parametrize(
    "ref",
    ["", "-x", "a..b", "a b", "a:b", "x.lock", ".x", "a/.b", "a//b", "a@{b", "@", "a\n", "x.", "/a", "a/", "a^"],
)
def test_bad_refs_are_refused(ref: str) -> None:
    with pytest.raises(InvalidRequest):
        Repository(url="https://h/r", ref=ref)


@pytest.mark.parametrize(
    "url", ["https://h", "https://h:8443/a@b.git?x", "https://[::1]/r", "https://bücher.example/ü"]
)
def test_good_urls_pass(url: str) -> None:
    assert Repository(url=url).url == url


@pytest.mark.parametrize(
    "url",
    [
        *("http://h/r", "file:///r", "ext::sh", "git@h:r", "https://" + "x" * 2000, "https://", "https:///r"),
        *("https://user:hunter2@h/r", "https://token@h/r", "https://h\\@evil/r", "https://[/r", "https://h/a b"),
    ],
)
def test_bad_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        Repository(url=url)


def test_bounds_are_inclusive() -> None:
    assert SandboxRequest(memory=256).memory == 256
    assert Limits(idle_seconds=0, seconds=604_800).seconds == 604_800
    with pytest.raises(InvalidRequest):
        SandboxRequest(memory=255)
    with pytest.raises(InvalidRequest):
        TaskSpec("x" * 100_001)
    with pytest.raises(InvalidRequest):
        SandboxRequest(cpu=float("nan"))
