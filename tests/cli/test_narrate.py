import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.cli import narrate
from squib.contracts.event import Event, EventType

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    *("error", "reason", "text", "result", "data", "input", "name", "id", "stream", "level", "message", "limit"),
    *("seconds", "driver", "isolation", "first", "last", "prompt", "commit", "subject", "branch", "agent", "model"),
    *("from", "command", "output", "exit_code", "passed", "is_error", "detail", "turn", "warm"),
    *("image", "snapshot", "how"),
]


def event(kind: str, **data) -> Event:
    return Event("task-1", 1, kind, 1.0, "agent", data)


@given(st.sampled_from(list(EventType)), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_no_event_is_too_odd_to_be_told(kind, data):
    line = narrate.line(event(kind, **data))
    if line is not None:
        assert "\x1b" not in line.label + line.text
        assert len(line.text) < 10_000


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("task.failed", {"error": {"detail": "no room", "advice": "Add a host."}}, "no room Add a host."),
        ("task.timed_out", {"limit": "turn", "seconds": 9}, "limit turn of 9 s"),
        ("sandbox.created", {"driver": "bubblewrap", "isolation": "namespace", "warm": True}, "ready from the pool"),
        ("sandbox.created", {"driver": "gvisor", "isolation": "userspace_kernel", "image": "go"}, "gvisor of go"),
        ("sandbox.created", {"driver": "qemu", "snapshot": "snp-1", "image": "go"}, "from a snapshot"),
        ("sandbox.suspended", {"how": "memory"}, "goes on where it was"),
        ("sandbox.suspended", {"how": "workspace"}, "the work is kept"),
        ("runtime.restored", {"from": {"text": "the save", "commit": "c"}}, "from the save"),
        ("agent.message", {"text": "Hello"}, "Hello"),
        ("agent.tool", {"name": "Bash", "input": {"command": "ls"}}, "Bash ls"),
        ("agent.output", {"text": "a\nb"}, "a\nb"),
        ("git.commit", {"commit": "0123456789abcdef", "subject": "Fix"}, "0123456789ab Fix"),
        ("tests.completed", {"passed": False, "exit_code": 2, "output": "E"}, "failed (exit 2)\nE"),
        ("runtime.gap", {"first": 3, "last": 5, "reason": "the ring was full"}, "3 to 5"),
        ("agent.dreamed", {"of": "sheep"}, "of=sheep"),
    ],
)
def test_what_is_told(kind, data, words):
    assert words in narrate.line(event(kind, **data)).text


def test_long_text_is_cut_and_says_so():
    told = narrate.line(event("agent.output", text="\n".join(map(str, range(100))))).text
    assert told.endswith("… 88 more lines")
    assert narrate.line(event("agent.usage")) is None


def test_of_tests_that_failed_the_end_is_shown():
    output = "\n".join(f"line {n}" for n in range(100))
    told = narrate.line(event("tests.completed", passed=False, exit_code=1, output=output)).text
    assert told.splitlines()[:2] == ["failed (exit 1)", "…"]
    assert told.splitlines()[2:] == [f"line {n}" for n in range(88, 100)]
