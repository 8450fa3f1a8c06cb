"""The codec: what goes in comes out, what does not fit is refused by the field's name."""

import dataclasses
import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.contracts import codec
from squib.contracts.errors import InvalidRequest
from squib.contracts.event import Event
from squib.contracts.guest import GuestConfig, RunState, RunStatus, TerminalRequest
from squib.contracts.machine import Capability, Isolation, Machine, MachinePhase, MachineSpec, Mount
from squib.contracts.task import Limits, Repository, SandboxRequest, Task, TaskSpec, TaskState, Usage

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40)
specs = st.builds(
    TaskSpec,
    prompt=text.filter(str.strip),
    agent=st.none() | text,
    repository=st.none() | st.builds(Repository, url=st.just("https://example.org/a.git"), ref=st.just("main")),
    sandbox=st.builds(SandboxRequest, cpu=st.floats(0.1, 64), memory=st.integers(256, 4096)),
    limits=st.builds(Limits, seconds=st.integers(1, 600)),
    labels=st.dictionaries(text, text, max_size=3),
)


@given(specs)
def test_a_task_spec_survives_the_wire(spec: TaskSpec) -> None:
    assert codec.loads(TaskSpec, codec.dumps(spec)) == spec


@pytest.mark.parametrize(
    "value",
    [
        Task("task-1", TaskState.RUNNING, TaskSpec("x"), 1.0, 2.0, usage=Usage(cost_usd=0.5), error={"a": [1]}),
        Machine(
            "mch-1",
            "bubblewrap",
            MachinePhase.READY,
            MachineSpec("mch-1", mounts=(Mount("/a", "/b"),), agents={"claude": {"k": "v"}}),
            "/d",
            "unix:/s",
            1.0,
            cgroups=("memory:/x",),
        ),
        Capability("gvisor", True, Isolation.USERSPACE_KERNEL, limits=("memory", "pids")),
        RunStatus("run-1", "mock", RunState.FAILED, exit_code=-9),
        GuestConfig("sbx-1", "00", "unix:/s"),
        Event("task-1", 1, "agent.message", 1.5, "agent", {"text": "é\n", "n": None}),
        TerminalRequest(["ls", "-l"]),
        TerminalRequest("ls"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_contract_survives_the_wire(value: Any) -> None:
    assert codec.loads(type(value), codec.dumps(value)) == value


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": "x", "colour": 1}, "colour"),
        ({"prompt": "x", "sandbox": {"memory": "1"}}, "sandbox.memory"),
        ({"prompt": "x", "sandbox": {"memory": 1}}, "sandbox.memory"),
        ({"prompt": "x", "sandbox": {"memory": True}}, "sandbox.memory"),
        ({"prompt": "x", "repository": {"url": "file:///etc"}}, "repository.url"),
        ({"prompt": "x", "repository": {}}, "repository.url"),
        ({"prompt": "x", "repository": {"url": "https://h/r", "ref": "--upload-pack=x"}}, "repository.ref"),
        ({"prompt": "x", "labels": {"a": 1}}, "labels.a"),
        ({"prompt": "x", "labels": []}, "labels"),
        ([], "body"),
    ],
)
def test_a_bad_field_is_named(document: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        codec.loads(TaskSpec, json.dumps(document))
    assert field in caught.value.fields


def test_lenient_ignores_what_a_newer_peer_added_but_not_wrong_types() -> None:
    assert codec.decode(Usage, {"input_tokens": 1, "novel": 2}, lenient=True) == Usage(input_tokens=1)
    with pytest.raises(InvalidRequest):
        codec.decode(Usage, {"input_tokens": "1"}, lenient=True)


def test_literals_and_lists_are_checked() -> None:
    @dataclasses.dataclass(frozen=True)
    class Shape:
        kind: Literal["a", "b"]
        sizes: list[int]

    assert codec.decode(Shape, {"kind": "a", "sizes": [1]}) == Shape("a", [1])
    for bad in ({"kind": "c", "sizes": []}, {"kind": "a", "sizes": ["1"]}):
        with pytest.raises(InvalidRequest):
            codec.decode(Shape, bad)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_nothing_but_invalid_request_is_raised(document: Any) -> None:
    try:
        codec.decode(TaskSpec, document)
    except InvalidRequest as error:
        assert error.fields
