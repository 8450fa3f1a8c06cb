"""Claude Code's adapter, and its parser on what the real program printed (data/, shortened)."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.agents import registry
from squib.agents.base import Turn
from squib.agents.claude import PLACEHOLDER_KEY
from squib.contracts import codec
from squib.contracts.errors import InvalidRequest
from squib.contracts.event import MAX_DATA_BYTES

DATA = Path(__file__).parent / "data"
CLAUDE = registry.get("claude")


def run(name, exit_code=0, stderr=""):
    parser = CLAUDE.parser()
    drafts = [
        draft for line in (DATA / f"claude-{name}.jsonl").read_bytes().splitlines() for draft in parser.feed(line)
    ]
    return drafts, parser.finish(exit_code, stderr)


def turn(**changes):
    given_ = {"prompt": "do it", "workspace": "/workspace", "home": "/home/agent"}
    return Turn(**{**given_, "gateway_url": "http://127.0.0.1:8990", **changes})


def test_the_command_keeps_prompt_and_key_out_of_its_arguments():
    command = CLAUDE.command(turn(prompt="secret plan", model="opus", session_id="s-1"))
    assert command.stdin == b"secret plan" and "secret plan" not in command.argv
    assert command.argv[command.argv.index("--model") + 1] == "opus"
    assert command.argv[command.argv.index("--resume") + 1] == "s-1"
    assert command.env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8990/anthropic"
    assert command.env["ANTHROPIC_API_KEY"] == PLACEHOLDER_KEY
    assert command.env["IS_SANDBOX"] == command.env["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == "1"
    retries = CLAUDE.command(turn(options={"max_retries": "7"})).env["CLAUDE_CODE_MAX_RETRIES"]
    assert retries == "7" and CLAUDE.guest_options == ("max_retries",)


def test_without_a_gateway_it_is_refused():
    with pytest.raises(InvalidRequest, match="gateway"):
        CLAUDE.command(turn(gateway_url=None))


@pytest.mark.parametrize("name", ["bare", "full", "partial"])
def test_a_good_run(name):
    drafts, outcome = run(name)
    drafts = [d for d in drafts if not d.data.get("text", "").startswith('{"type":"system"')]
    types = [d.type for d in drafts]
    step = ["agent.message", "agent.tool", "agent.output"]
    assert types == ["agent.log", *step, *step, "agent.message", "agent.usage"]
    tool, output = drafts[types.index("agent.tool")], drafts[types.index("agent.output")]
    assert tool.data["id"] == output.data["id"] and tool.data["name"] in ("Bash", "Write")
    assert drafts[-1].data == {
        "input_tokens": 330,
        "output_tokens": 60,
        "cache_read_tokens": 150,
        "cache_write_tokens": 0,
        "cost_usd": 0.00255,
    }
    assert outcome.good and outcome.reason is None
    assert outcome.result == "Done: I wrote hello.py and ran it."
    assert (outcome.turns, outcome.cost_usd, outcome.input_tokens) == (3, 0.00255, 330)
    assert len(outcome.session_id) == 36
    assert {d.source for d in drafts} == {"agent"}


def test_a_resumed_run_costs_what_it_costs_alone():
    _, outcome = run("resume-2")
    assert outcome.good
    assert outcome.cost_usd == pytest.approx(0.00081)  # the line's total_cost_usd says 0.00336
    assert (outcome.input_tokens, outcome.output_tokens) == (100, 20)


def test_several_results_add_up_and_the_last_one_judges():
    _, outcome = run("multiturn")
    assert outcome.good and outcome.turns == 8
    assert outcome.cost_usd == pytest.approx(0.00545)
    assert outcome.result.startswith("Follow-up answered; history holds 4")


@pytest.mark.parametrize(
    ("name", "exit_code", "words"),
    [
        ("err-401-r1", 1, ["401", "SQUIB_PROVIDERS__ANTHROPIC__API_KEY"]),  # its subtype is "success"
        ("err-401-r1", 0, ["401"]),  # the flag alone is enough
        ("maxturns", 1, ["Reached maximum number of turns (1)", "smaller"]),
        ("budget", 1, ["Reached maximum budget"]),
        ("resume-bad", 1, ["No conversation found", "new task"]),
        ("sigINT", 0, ["without a result", "interrupted"]),
        ("sigTERM", 143, ["signal 15"]),
        ("sigTERM", -9, ["signal 9"]),
        ("sigTERM", 1, ["status 1", "last words: it is broken"]),
        ("full", 1, ["gave a result but then ended with status 1"]),
        ("full", None, ["status None"]),
    ],
)
def test_a_bad_run_says_what_to_do(name, exit_code, words):
    _, outcome = run(name, exit_code, stderr="it is broken\n")
    assert not outcome.good and outcome.result is None
    for word in words:
        assert word in outcome.reason


def test_what_was_used_before_the_cut_is_known():
    _, outcome = run("sigINT")
    assert (outcome.input_tokens, outcome.cache_read_tokens) == (100, 50)


def test_a_retry_is_told():
    drafts, _ = run("err-401-r1")
    assert "The model's API failed (401, authentication_failed); retry 1 of 1." in [
        d.data.get("text") for d in drafts
    ]


def result(**changes):
    line = {"type": "result", "subtype": "success", "is_error": False, "result": "ok", **changes}
    return json.dumps(line).encode()


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (403, "key"),
        (404, "model"),
        (413, "too large"),
        (429, "quota"),
        (502, "retry"),
        (529, "retry"),
        (None, "events"),
    ],
)
def test_each_failure_of_the_api_has_its_advice(status, word):
    parser = CLAUDE.parser()
    parser.feed(result(is_error=True, api_error_status=status))
    assert word in parser.finish(1, "").reason


def test_denied_tools_are_noted_and_the_older_account_is_taken():
    parser = CLAUDE.parser()
    usage = {"input_tokens": 5, "output_tokens": 2}
    line = result(permission_denials=[{"tool_name": "Bash"}], total_cost_usd=0.5, usage=usage)
    drafts = parser.feed(line)
    assert drafts[-1].data["text"] == "1 tool calls were denied: Bash"
    outcome = parser.finish(0, "")
    assert outcome.good and (outcome.cost_usd, outcome.input_tokens) == (0.5, 5)


def test_unknown_lines_are_kept_raw_and_fail_nothing():
    parser = CLAUDE.parser()
    for line in (
        b"plain words",
        b'{"type":"brand_new","x":1}',
        b'{"no":"type"}',
        b"\xff\xfe",
        b"[1]",
        b'{"type":[]}',
    ):
        (draft,) = parser.feed(line)
        assert draft.type == "agent.log" and draft.data["text"] == line.decode("utf-8", "replace")
    assert parser.feed(b"  ") == []
    parser.feed(result())
    assert parser.finish(0, "").good


def test_blocks_of_all_kinds():
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}, {"type": "new"}]
    parser = CLAUDE.parser()
    line = {"type": "assistant", "parent_tool_use_id": "t1", "message": {"content": content}}
    drafts = parser.feed(json.dumps(line).encode())
    assert [d.data for d in drafts] == [
        {"role": "thinking", "text": "hm", "parent": "t1"},
        {"role": "assistant", "text": "so", "parent": "t1"},
    ]
    blocks = [{"type": "text", "text": "a"}, {"type": "image", "source": {}}]
    answer = {"type": "tool_result", "tool_use_id": "x", "content": blocks, "is_error": True}
    (draft,) = parser.feed(json.dumps({"type": "user", "message": {"content": [answer]}}).encode())
    assert draft.data == {"id": "x", "text": "a\n[image]", "is_error": True, "truncated": False}


BIG = "x" * 3_000_000


@pytest.mark.parametrize(
    "message",
    [
        {"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "i", "content": BIG}]}},
        {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "i", "input": {"c": BIG}}]}},
        {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "i", "input": ["y" * 300] * 9999}]}},
        {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "i", "input": {BIG: {BIG: 1}}}]}},
        {"type": "other", "text": "\x01" * 1_000_000},
    ],
    ids=range(5),
)
def test_a_large_line_is_cut_and_says_so(message):
    (draft,) = CLAUDE.parser().feed(json.dumps(message).encode())
    assert draft.data["truncated"] is True
    assert draft.data.get("id", "i") == "i"
    assert 100 < len(codec.dumps(draft.data)) <= MAX_DATA_BYTES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
BLOCK = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "thinking", "tool_use", "tool_result", "x"])},
    optional=dict.fromkeys(("text", "thinking", "id", "name", "input", "content", "tool_use_id", "is_error"), JSON),
)
MESSAGE = st.fixed_dictionaries(
    {"type": st.sampled_from(["assistant", "user", "system", "result", "stream_event"]) | JSON},
    optional={
        "message": JSON
        | st.fixed_dictionaries({"content": JSON | st.lists(BLOCK, max_size=3)}, optional={"id": JSON}),
        **dict.fromkeys(
            (
                "subtype",
                "session_id",
                "is_error",
                "result",
                "errors",
                "usage",
                "num_turns",
                "total_cost_usd",
                "permission_denials",
                "api_error_status",
            ),
            JSON,
        ),
        "model_usage_since_last_result": JSON | st.dictionaries(st.text(max_size=3), JSON, max_size=2),
    },
)


@given(
    st.lists(st.binary(max_size=60) | MESSAGE.map(lambda m: json.dumps(m).encode()), max_size=6),
    st.integers() | st.none(),
)
def test_no_line_raises_and_every_run_is_judged(feed, exit_code):
    parser = CLAUDE.parser()
    for line in feed:
        for draft in parser.feed(line):
            assert draft.type.startswith("agent.")
            assert len(codec.dumps(draft.data)) <= MAX_DATA_BYTES
    outcome = parser.finish(exit_code, "tail")
    assert outcome.good == (outcome.reason is None)
    assert outcome.cost_usd >= 0 and outcome.input_tokens >= 0


def test_depth_is_no_danger():
    (draft,) = CLAUDE.parser().feed(b'{"a":' + b"[" * 100_000)
    assert draft.type == "agent.log"
