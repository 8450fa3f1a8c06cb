"""The mock agent: its program run for real, its lines read by its own parser."""

import os
import re
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.agents import registry
from squib.agents.base import Turn
from squib.agents.mock_program import PLAN
from squib.contracts import codec
from squib.contracts.errors import InvalidRequest
from squib.contracts.event import MAX_DATA_BYTES

MOCK = registry.get("mock")
pytestmark = pytest.mark.needs("git")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "home").mkdir()
    return tmp_path


def run(place, prompt, session_id=None):
    turn = Turn(prompt, str(place / "work"), str(place / "home"), session_id=session_id)
    command = MOCK.command(turn)
    env = {**os.environ, **command.env, "HOME": str(place / "home"), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        command.argv, input=command.stdin, env=env, cwd=turn.workspace, capture_output=True, check=False
    )
    parser = MOCK.parser()
    drafts = [draft for line in done.stdout.splitlines() for draft in parser.feed(line)]
    return drafts, parser.finish(done.returncode, done.stderr.decode())


def git(place, *arguments):
    return subprocess.run(
        ["git", *arguments], cwd=place / "work", check=True, capture_output=True, text=True
    ).stdout.strip()


def test_registry_knows_its_agents():
    assert registry.names() == ["mock", "claude"]
    assert [registry.get(name).name for name in registry.names()] == registry.names()
    with pytest.raises(InvalidRequest, match="unknown") as caught:
        registry.get("../mock")
    assert "mock, claude" in caught.value.fields["agent"]


def test_it_plans_commits_and_remembers(place):
    drafts, outcome = run(place, "Add a greeting\nin two languages")
    types = [d.type for d in drafts]
    call = ["agent.tool", "agent.output"]
    assert types == ["agent.message", *call, *call, "agent.usage"]
    assert outcome.good and PLAN in outcome.result and outcome.input_tokens == 6
    assert "> in two languages" in (place / "work" / PLAN).read_text()
    assert git(place, "log", "--format=%s") == "Plan: Add a greeting"
    assert git(place, "status", "--porcelain") == ""

    _, again = run(place, "And a third", session_id=outcome.session_id)
    assert again.good and again.session_id == outcome.session_id and "turn 2" in again.result
    assert (place / "work" / PLAN).read_text().count("### Plan") == 2
    assert git(place, "rev-list", "--count", "HEAD") == "2"

    _, strange = run(place, "x", session_id="../../etc/passwd")
    assert not strange.good and "no session" in strange.reason


def test_it_leaves_what_others_changed_alone(place):
    git(place, "init", "-q")
    (place / "work" / "other.txt").write_text("mine")
    assert run(place, "work")[1].good
    assert git(place, "status", "--porcelain") == "?? other.txt"


def test_directives(place):
    prompt = "go mock:write=out.txt mock:lines=3 mock:every_ms=1 mock:size=20\nmock:run=echo $((6*7)); exit 3\nend"
    drafts, outcome = run(place, prompt)
    assert outcome.good and (place / "work" / "out.txt").read_text() == prompt
    output = {d.data["id"]: d.data for d in drafts if d.type == "agent.output" and d.data["id"] != "lines"}
    assert output["run"] == {"id": "run", "text": "42\n", "is_error": True, "truncated": False}
    lines = [d.data for d in drafts if d.data.get("id") == "lines"]
    assert [line["n"] for line in lines] == [1, 2, 3]
    assert all(line["text"] == "x" * 20 and line["at"] > 1e9 for line in lines)


def test_failures(place):
    drafts, outcome = run(place, "mock:fail")
    assert not outcome.good and "mock:fail" in outcome.reason and drafts
    _, outcome = run(place, "mock:crash")
    assert not outcome.good and "exit status 137" in outcome.reason
    _, outcome = run(place, "mock:sleep=soon")
    assert not outcome.good and "needs a number" in outcome.reason
    (place / "work" / ".git" / "index.lock").write_text("")
    _, outcome = run(place, "go")
    assert not outcome.good and "index.lock" in outcome.reason


def test_it_can_leave_a_child_behind(place):
    drafts, _ = run(place, "mock:spawn")
    pid = int(re.search(r"left pid (\d+) behind", str(drafts))[1])
    try:
        assert os.getsid(pid) == pid
    finally:
        os.kill(pid, signal.SIGKILL)


def test_its_start_imports_no_more_than_it_needs():
    probe = (
        "import sys, squib.agents.mock_program; print([m for m in sys.modules if m in ('asyncio', 'dataclasses')])"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True).stdout == b"[]\n"


def test_the_guest_brings_the_program():
    turn = Turn("p", "/w", "/h", session_id="a" * 32, options={"guest": "/opt/g.pyz", "python": "/usr/bin/python3"})
    assert MOCK.command(turn).argv == ["/usr/bin/python3", "/opt/g.pyz", "mock-agent", "--resume", "a" * 32]


@given(
    st.lists(
        st.binary(max_size=40)
        | st.dictionaries(st.just("type") | st.text(max_size=5), st.text(max_size=5)).map(lambda d: codec.dumps(d)),
        max_size=5,
    ),
    st.integers(),
)
def test_no_line_raises(feed, exit_code):
    parser = MOCK.parser()
    for line in feed:
        for draft in parser.feed(line):
            assert len(codec.dumps(draft.data)) <= MAX_DATA_BYTES
    outcome = parser.finish(exit_code, "")
    assert outcome.good == (outcome.reason is None)
