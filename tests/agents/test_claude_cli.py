"""The real Claude Code, run by a real guest, through the gateway, against the scripted model server."""

import asyncio
import os
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from squib.agents.claude import PLACEHOLDER_KEY
from squib.contracts import codec, ids
from squib.contracts.errors import GuestUnreachable
from squib.contracts.guest import CancelRequest, GuestConfig, RunRequest, RunState
from squib.contracts.sandbox import SandboxSpec
from squib.gateway import Gateway, Route
from squib.host import Host, HostConfig
from squib.link import GuestLink, guest_token, token_digest
from squib.testing.model import ModelServer

KEY = "sk-ant-the-real-key-0123456789"
pytestmark = pytest.mark.needs("claude")


class Place:
    """A guest with its link, its workspace, and what its events said."""

    def __init__(self, link: GuestLink, workspace: Path, model: ModelServer):
        self.link, self.workspace, self.model = link, workspace, model
        self.events = []

    async def start(self, prompt, session_id=None):
        request = RunRequest(ids.new_id("run"), "claude", prompt, session_id=session_id)
        await self.link.run(request)
        return request.run_id

    async def finish(self):
        """Read on to the run's closing event, and give its status and the events of this run."""
        last = self.events[-1] if self.events else None
        run = []
        async for batch in self.link.events(last and last.epoch, last.n if last else 0):
            run += batch
            if batch[-1].type in ("agent.completed", "agent.failed"):
                break
        self.events += run
        return await self.link.run_status(), run


@asynccontextmanager
async def guest_process(config, directory):
    (directory / "guest.json").write_bytes(codec.dumps(config))
    argv = [sys.executable, "-m", "squib.guest", "serve", "--config", str(directory / "guest.json")]
    process = await asyncio.create_subprocess_exec(*argv)
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
async def place(shared_tmp, tools_dir, request):
    """`request.param` is the key that squib's settings hold; the provider knows KEY alone."""
    key = getattr(request, "param", KEY)
    for name in ("work", "home", "state", "guest", "gateway"):
        (shared_tmp / name).mkdir()
    config = GuestConfig(
        "sbx-1",
        token_digest("token"),
        f"unix:{shared_tmp}/guest/guest.sock",
        workspace=str(shared_tmp / "work"),
        state_dir=str(shared_tmp / "state"),
        home=str(shared_tmp / "home"),
        gateway=f"unix:{shared_tmp}/gateway/gateway.sock",
        gateway_port=free_port(),
        path=f"{tools_dir}/node_modules/.bin:{os.environ['PATH']}",
        agents={"claude": {"max_retries": "0"}},
    )
    async with (
        ModelServer(key=KEY) as model,
        Gateway({"anthropic": Route(model.url, {"x-api-key": key})}) as gateway,
        guest_process(config, shared_tmp) as process,
        GuestLink(config.listen, "token") as link,
    ):
        await gateway.open("mch-1", shared_tmp / "gateway/gateway.sock", None)
        await answering(link, process)
        yield Place(link, shared_tmp / "work", model)


async def answering(link, process):
    while True:
        try:
            return await link.health()
        except GuestUnreachable:
            assert process.returncode is None
            await asyncio.sleep(0.02)


def everything(place):
    """All that a sandbox and its events hold, as one text."""
    files = [p for p in place.workspace.parent.rglob("*") if p.is_file()]
    return "".join(p.read_bytes().decode("utf-8", "replace") for p in files) + codec.dumps(place.events).decode()


async def test_a_turn_then_a_follow_up_that_remembers_it(place):
    await place.start("Write a greeting")
    first, events = await place.finish()
    assert first.state is RunState.SUCCEEDED, first
    assert first.result == "Done: I wrote hello.py and ran it."
    assert (place.workspace / "hello.py").read_text() == 'print("hello from squib")\n'
    agent = [e for e in events if e.source == "agent"]
    assert [e.data["name"] for e in agent if e.type == "agent.tool"] == ["Write", "Bash"]
    assert [e.data["text"] for e in agent if e.type == "agent.output"][1] == "hello from squib"
    assert first.cost_usd > 0 and first.input_tokens > 0

    await place.start("And now?", session_id=first.session_id)
    second, events = await place.finish()
    assert second.state is RunState.SUCCEEDED, second
    assert second.result == "This is turn 2 of our conversation, which began with: Write a greeting"
    assert 0 < second.cost_usd < first.cost_usd and second.input_tokens < first.input_tokens
    assert [e.n for e in place.events] == list(range(1, len(place.events) + 1))


async def test_no_key_enters_the_sandbox(place):
    await place.start("model:run=env; cat /proc/self/environ")
    status, events = await place.finish()
    assert status.state is RunState.SUCCEEDED, status
    shown = "".join(e.data["text"] for e in events if e.type == "agent.output")
    assert f"ANTHROPIC_API_KEY={PLACEHOLDER_KEY}" in shown
    assert KEY not in everything(place)
    assert place.model.seen
    for seen in place.model.seen:
        assert seen.headers["x-api-key"] == KEY
        assert PLACEHOLDER_KEY not in str(seen.headers)


@pytest.mark.parametrize("place", ["sk-ant-a-wrong-key-0123456789"], indirect=True)
async def test_a_refused_key_fails_and_says_what_to_do(place):
    await place.start("go")
    status, events = await place.finish()
    assert status.state is RunState.FAILED
    assert "401" in status.reason and "SQUIB_PROVIDERS__ANTHROPIC__API_KEY" in status.reason
    assert events[-1].type == "agent.failed" and events[-1].data["reason"] == status.reason
    assert "a-wrong-key" not in everything(place)


async def test_an_unknown_session_fails_and_says_what_to_do(place):
    await place.start("go", session_id="00000000-0000-4000-8000-000000000000")
    status, _ = await place.finish()
    assert status.state is RunState.FAILED and "new task" in status.reason


@pytest.mark.needs("bwrap")
async def test_the_same_in_an_isolated_sandbox(shared_tmp, tools_dir):
    """No network but the gateway, another user, the sandbox's own Python: the model is reached all the same."""
    async with (
        asyncio.timeout(60),
        ModelServer(key=KEY) as model,
        Gateway({"anthropic": Route(model.url, {"x-api-key": KEY})}) as gateway,
        Host(HostConfig(shared_tmp, b"k" * 32, driver="bubblewrap", pool_size=0, tools=tools_dir), gateway) as host,
    ):
        machine = await host.claim(SandboxSpec(ids.new_id("sbx"), ids.new_id("task")))
        async with GuestLink(machine.endpoint, guest_token(b"k" * 32, machine.id), uid=machine.uid) as link:
            place = Place(link, Path(machine.directory) / "workspace", model)
            await place.start("Write a greeting")
            first, _ = await place.finish()
            assert first.state is RunState.SUCCEEDED, first
            assert await link.read("hello.py") == b'print("hello from squib")\n'
            await place.start("model:run=env; cat /proc/self/environ", session_id=first.session_id)
            second, events = await place.finish()
            assert second.state is RunState.SUCCEEDED, second
            assert PLACEHOLDER_KEY in "".join(e.data["text"] for e in events if e.type == "agent.output")
            assert KEY not in everything(place)
        await host.delete(machine.sandbox_id)


async def test_a_cancel_ends_the_whole_tree(place):
    """Claude starts a shell, which starts one child beside it and one in a session of its own."""
    for name in ("one", "two", "never"):
        os.mkfifo(place.workspace / name)
    mark = f"child-{ids.new_id('run')}"
    child = "sh -c 'echo up > {}; read line < never' " + mark
    run_id = await place.start(f"model:run=setsid {child.format('one')} & {child.format('two')} & wait")
    for name in ("one", "two"):
        assert await asyncio.to_thread((place.workspace / name).read_text) == "up\n"
    assert len(children(mark)) == 2
    status = await place.link.cancel(CancelRequest(run_id))
    assert status.state is RunState.CANCELLED
    assert children(mark) == []
    _, events = await place.finish()
    assert events[-1].type == "agent.failed"


def children(mark):
    return [p.pid for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[-1] == mark]
