"""Through the daemon to a real guest: both ways, as it comes, and nowhere else."""

import asyncio
from pathlib import Path

import h11
import httpx2
import pytest
from websockets.asyncio.client import connect as ws_connect
from websockets.exceptions import InvalidStatus

from squib.contracts.errors import GuestUnreachable, NotFound
from squib.contracts.guest import TerminalRequest
from squib.contracts.sandbox import Sandbox
from squib.daemon import proxy
from squib.host import HostConfig
from squib.link import GuestLink, guest_token, host_token
from tests.daemon.conftest import KEY, Daemon, daemon, spec


def link(sandbox: Sandbox) -> GuestLink:
    return GuestLink(sandbox.endpoint, guest_token(KEY, sandbox.machine_id))


def bearer(sandbox: Sandbox) -> dict[str, str]:
    return {"Authorization": f"Bearer {guest_token(KEY, sandbox.machine_id)}"}


@pytest.mark.parametrize("unix", [False, True])
async def test_the_guests_whole_contract_passes(config: HostConfig, shared_tmp: Path, unix: bool) -> None:
    place = f"unix:{shared_tmp}/daemon.sock" if unix else "127.0.0.1:0"
    async with daemon(config, place) as running:
        sandbox = await running.orchestrator.create(spec())
        assert sandbox.endpoint.startswith("http+unix://" if unix else "http://127.0.0.1:")
        async with link(sandbox) as guest:
            assert (await guest.health()).contract == 1
            content = bytes(range(256)) * 8192
            await guest.write("big", content)
            assert await guest.read("big") == content

            async def pieces():
                for start in range(0, len(content), 100_000):
                    yield content[start : start + 100_000]

            await guest.write("chunked ä%2f?", pieces())
            assert b"".join([piece async for piece in guest.read_stream("chunked ä%2f?")]) == content
            with pytest.raises(NotFound):
                await guest.read("none")
            streamed = [piece async for piece in guest.terminal_stream(TerminalRequest("echo one; echo two >&2"))]
            assert {name for name, _ in streamed} == {"stdout", "stderr", "exit"}
            async with guest.pty(cols=80, rows=24, command="read line; echo got $line") as pty:
                await pty.resize(100, 30)
                await pty.send(b"this\n")
                assert b"got this" in b"".join([data async for data in pty])
                assert pty.exit is not None


async def test_a_stream_is_not_held_back(running: Daemon) -> None:
    """The command ends only once its first line has been read here and answered."""
    sandbox = await running.orchestrator.create(spec())
    async with link(sandbox) as guest, asyncio.timeout(30):
        stream = guest.terminal_stream(TerminalRequest("echo first; until [ -e go ]; do sleep 0.05; done; echo last"))
        seen = b""
        async for name, data in stream:
            if name == "stdout":
                assert isinstance(data, bytes)
                seen += data
            if seen == b"first\n":
                await guest.write("go", b"")
        assert seen == b"first\nlast\n"


async def test_only_the_guests_own_token_opens_it(running: Daemon) -> None:
    one, two = await running.orchestrator.create(spec()), await running.orchestrator.create(spec())
    tokens = [host_token(KEY), guest_token(KEY, two.machine_id), guest_token(KEY, "no machine"), "x"]
    for sandbox_id in (one.id, spec().id):
        path = f"/v1/sandboxes/{sandbox_id}/guest/health"
        for token in tokens:
            answer = await running.http.get(path, headers={"Authorization": f"Bearer {token}"})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            with pytest.raises(InvalidStatus) as refused:
                async with ws_connect(
                    running.url.replace("http", "ws") + path, additional_headers={"Authorization": f"Bearer {token}"}
                ):
                    pass
            assert refused.value.response.status_code == 401
    async with link(one) as guest:
        assert await guest.health()


@pytest.mark.parametrize(
    "path", ["", "//evil.example/x", "/../status", "/%2e%2e/%2e%2e/status", "/http://evil.example/", "/@evil.example"]
)
async def test_no_path_leads_past_the_guest(running: Daemon, path: str) -> None:
    sandbox = await running.orchestrator.create(spec())
    host, port = running.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"GET /v1/sandboxes/{sandbox.id}/guest{path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n"
    writer.write(f"{head}Authorization: {bearer(sandbox)['Authorization']}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.split()[1] in (b"404", b"422", b"400"), answer
    assert b"capacity" not in answer


async def test_headers_of_one_hop_stay_behind(running: Daemon) -> None:
    """The guest refuses a second framing and an upgrade that it does not know; neither reaches it."""
    sandbox = await running.orchestrator.create(spec())
    more = {"Connection": "keep-alive, X-Secret", "X-Secret": "1", "Keep-Alive": "3", "TE": "trailers"}
    answer = await running.http.get(f"/v1/sandboxes/{sandbox.id}/guest/health", headers=bearer(sandbox) | more)
    assert answer.status_code == 200
    assert "keep-alive" not in answer.headers
    assert answer.headers["content-type"].startswith("application/json")


def test_what_is_of_one_connection_is_taken_out() -> None:
    head = [(b"Connection", b"keep-alive, X-Secret"), (b"X-Secret", b"1"), (b"TE", b"x"), (b"A", b"b")]
    assert proxy._end_to_end(head) == [(b"a", b"b")]


async def test_a_caller_who_leaves_ends_the_command(running: Daemon) -> None:
    sandbox = await running.orchestrator.create(spec())
    async with link(sandbox) as guest:
        body = {"command": "echo $$ > pid; exec sleep 300", "timeout_seconds": 300}
        url = f"{running.url}/v1/sandboxes/{sandbox.id}/guest/terminal"
        async with httpx2.AsyncClient(headers=bearer(sandbox), timeout=60) as client:
            asking = asyncio.create_task(client.post(url, json=body))
            async with asyncio.timeout(20):
                while not (pid := await _pid(guest)):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)


async def _pid(guest: GuestLink) -> str:
    try:
        return (await guest.read("pid")).decode().strip()
    except NotFound:
        return ""


async def test_a_dead_guest_is_told_as_unreachable(running: Daemon) -> None:
    sandbox = await running.orchestrator.create(spec())
    machine = await running.host.get(sandbox.id)
    assert machine is not None
    Path(machine.endpoint.removeprefix("unix:")).unlink()
    async with link(sandbox) as guest:
        with pytest.raises(GuestUnreachable):
            await guest.health()
        with pytest.raises(GuestUnreachable):
            async with guest.pty(cols=80, rows=24, command=None):
                pass


async def test_a_body_that_is_cut_short_is_not_taken_for_whole(running: Daemon) -> None:
    sandbox = await running.orchestrator.create(spec())
    host, port = running.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    sender = h11.Connection(h11.CLIENT)
    headers = [("Host", "x"), ("Content-Length", "100000"), *bearer(sandbox).items()]
    target = f"/v1/sandboxes/{sandbox.id}/guest/files/write?path=half"
    writer.write(sender.send(h11.Request(method="POST", target=target, headers=headers)) or b"")
    writer.write(sender.send(h11.Data(b"x" * 50_000)) or b"")
    await writer.drain()
    writer.transport.abort()
    async with link(sandbox) as guest:
        await guest.write("whole", b"x")  # the guest has gone on
        names = {entry.path for entry in (await guest.list()).entries}
        assert "half" not in names
