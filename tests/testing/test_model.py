"""The model server over HTTP, and as the program that people run."""

import asyncio
import json
import sys

import httpx2
import pytest

from squib.testing.model import ModelServer
from squib.testing.script import Step

TOOLS = [{"name": "Bash"}, {"name": "Write"}]


def body(prompt, **more):
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], "tools": TOOLS, **more}


@pytest.fixture
async def server():
    async with ModelServer(key="k") as made:
        yield made


@pytest.fixture
async def client(server):
    async with httpx2.AsyncClient(base_url=server.url, headers={"x-api-key": "k"}) as made:
        yield made


async def test_an_answer_in_one_piece(server, client):
    answer = (await client.post("/v1/messages", json=body("go"))).json()
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use"]
    assert (answer["stop_reason"], answer["role"]) == ("tool_use", "assistant")
    assert answer["usage"]["output_tokens"] > 0
    assert server.seen[0].headers["x-api-key"] == "k" and server.seen[0].step.tool == "Write"


async def test_an_answer_as_a_stream_says_the_same(client):
    async with client.stream("POST", "/v1/messages?beta=true", json=body("go", stream=True)) as answer:
        lines = [line async for line in answer.aiter_lines()]
    assert answer.headers["content-type"] == "text/event-stream"
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [f"event: {e['type']}" for e in events] == [line for line in lines if line.startswith("event: ")]
    assert events[0]["type"] == "message_start" and events[-1]["type"] == "message_stop"
    deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    assert "".join(d.get("text", "") for d in deltas) == "I write hello.py."
    assert json.loads("".join(d.get("partial_json", "") for d in deltas))["file_path"] == "./hello.py"
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


async def test_failures_have_the_providers_form(client, server):
    failed = await client.post("/v1/messages", json=body("model:error=429"))
    assert failed.status_code == 429 and failed.json()["error"]["type"] == "rate_limit_error"
    denied = await client.post("/v1/messages", json=body("go"), headers={"x-api-key": "other"})
    assert denied.status_code == 401 and denied.json()["error"]["type"] == "authentication_error"
    for content in (b"nonsense", b"[]", b'{"messages": [7]}', b'{"messages": 7}', b'{"tools": 7}'):
        answer = await client.post("/v1/messages", content=content)
        assert answer.status_code in (200, 400)
    assert (await client.get("/v1/other")).status_code == 404
    assert (await client.head("/")).status_code == 200
    assert (await client.post("/v1/messages/count_tokens", json=body("x"))).json()["input_tokens"] > 0


async def test_a_slow_answer_ends_with_its_client():
    async with (
        ModelServer([[Step(text="one two", slow_ms=3_600_000)]]) as server,
        httpx2.AsyncClient(base_url=server.url) as client,
        client.stream("POST", "/v1/messages", json=body("go", stream=True)) as answer,
    ):
        assert (await anext(answer.aiter_lines())) == "event: message_start"


async def test_it_runs_as_a_program(tmp_path):
    (tmp_path / "s.json").write_text('[{"text": "from a file"}]')
    options = ["--port", "0", "--script", str(tmp_path / "s.json"), "--log", str(tmp_path / "log")]
    argv = [sys.executable, "-m", "squib.testing.model", *options]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        url = (await process.stdout.readline()).decode().split()[-1]
        async with httpx2.AsyncClient(base_url=url) as client:
            answer = (await client.post("/v1/messages", json=body("go"), headers={"x-api-key": "seen"})).json()
        assert answer["content"][0]["text"] == "from a file"
    finally:
        process.terminate()
        await process.wait()
    assert json.loads((tmp_path / "log").read_text())["headers"]["x-api-key"] == "seen"


async def test_a_bad_script_is_told_at_the_start(tmp_path):
    (tmp_path / "s.json").write_text("[{}]")
    argv = [sys.executable, "-m", "squib.testing.model", "--script", str(tmp_path / "s.json")]
    process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.PIPE)
    _, stderr = await process.communicate()
    assert process.returncode == 2 and b"a step needs one of" in stderr
