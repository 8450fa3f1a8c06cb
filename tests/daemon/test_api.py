"""The routes over a real host: what is asked, what is refused, and how both are told."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts import codec
from squib.contracts.errors import HostFull, HostUnreachable, InvalidRequest, NotFound, Unauthenticated
from squib.contracts.host import HostStatus
from squib.contracts.task import SandboxRequest
from squib.host import HostConfig
from squib.link import guest_token
from squib.orchestrator.remote import Place, RemoteOrchestrator
from tests.daemon.conftest import KEY, Daemon, daemon, spec


async def test_no_route_but_health_answers_without_the_hosts_token(running: Daemon) -> None:
    made = await running.orchestrator.create(spec())
    wrong = ["", "Bearer x", f"Bearer {guest_token(KEY, made.machine_id)}", f"Basic {'a' * 64}", "Bearer \xff"]
    asked = [("GET", "/v1/status"), ("GET", "/v1/sandboxes"), ("GET", "/metrics"), ("GET", "/v1/snapshots")]
    one = f"/v1/sandboxes/{made.id}"
    asked += [(method, one) for method in ("PUT", "GET", "DELETE")]
    asked += [("POST", f"{one}/{verb}") for verb in ("suspend", "resume", "fork")]
    for method, path in asked:
        for value in wrong:
            answer = await running.http.request(method, path, headers={"Authorization": value.encode("latin-1")})
            assert answer.status_code == 401, (method, path, value)
            assert answer.json()["code"] == "unauthenticated"
    assert (await running.http.get("/healthz", headers={"Authorization": ""})).status_code == 200
    assert await running.orchestrator.get(made.id) == made
    async with RemoteOrchestrator(running.url, b"another key, of 32 bytes or so..") as stranger:
        with pytest.raises(Unauthenticated, match="token"):
            await stranger.status()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"\xff", "body"),
        (b"[" * 100_000, "body"),
        (b'{"id": "../../etc", "task_id": "x"}', "id"),
        (b'{"id": "ID", "task_id": "../x"}', "id"),
        (b'{"id": "ID", "task_id": "TASK", "ttl_seconds": -1}', "ttl_seconds"),
        (b'{"id": "ID", "task_id": "TASK", "ttl_seconds": 1e300}', "ttl_seconds"),
        (b'{"id": "ID", "task_id": "TASK", "request": {"memory": 1}}', "request.memory"),
        (b'{"id": "ID", "task_id": "TASK", "more": 1}', "more"),
    ],
)
async def test_a_body_that_is_no_specification_is_refused_by_its_field(
    running: Daemon, body: bytes, field: str
) -> None:
    wanted = spec()
    body = body.replace(b"ID", wanted.id.encode()).replace(b"TASK", wanted.task_id.encode())
    answer = await running.http.put(f"/v1/sandboxes/{wanted.id}", content=body)
    assert answer.status_code == 422
    assert field in answer.json()["fields"]
    assert await running.orchestrator.list() == []


async def test_a_body_out_of_bounds_and_an_id_that_is_none_are_refused(running: Daemon) -> None:
    answer = await running.http.put(f"/v1/sandboxes/{spec().id}", content=b" " * (2 << 20))
    assert answer.json()["code"] == "too_large"
    for path in ("/v1/sandboxes/x", "/v1/sandboxes/..%2f..%2fetc", "/v1/nothing", "/v1/sandboxes/"):
        assert (await running.http.get(path)).status_code == 404
    assert (await running.http.patch("/v1/status")).status_code == 405
    with pytest.raises(NotFound):
        await running.orchestrator.create(spec(image="cobol"))
    with pytest.raises(InvalidRequest):
        await running.orchestrator.fork(spec().id, [])


async def test_a_full_host_says_what_is_missing_and_how_it_stands(config: HostConfig) -> None:
    async with daemon(replace(config, cpu=8.0, memory=4096, disk=30_000)) as running:
        made = await running.orchestrator.create(spec())
        with pytest.raises(HostFull, match="2048 MiB of memory left to promise, 4096 are asked") as refused:
            await running.orchestrator.create(spec(request=SandboxRequest(memory=4096)))
        assert (refused.value.status, refused.value.advice) == (503, HostFull.default_advice)
        with pytest.raises(HostFull, match="cores"):
            await running.orchestrator.create(spec(request=SandboxRequest(cpu=7)))
        with pytest.raises(HostFull, match="disk"):
            await running.orchestrator.create(spec(request=SandboxRequest(disk=25_000)))
        status = codec.loads(HostStatus, (await running.http.get("/v1/status")).content)
        assert replace(status, free_disk=0) == replace(await running.orchestrator.status(), free_disk=0)
        assert status.free_disk > 0
        assert (status.used.machines, status.used.cpu, status.used.memory, status.used.disk) == (1, 2.0, 2048, 10240)
        assert (status.capacity.memory, status.sandboxes, status.capability.driver) == (4096, 1, "process")
        text = (await running.http.get("/metrics")).text
        assert 'squib_host_used{resource="memory"} 2048.0' in text
        assert 'squib_host_capacity{resource="cpu"} 8.0' in text
        assert 'squib_host_machines{state="claimed"} 1.0' in text
        assert json.loads((await running.http.get("/v1/snapshots")).content) == {"items": []}
        await running.orchestrator.delete(made.id)
        big = await running.orchestrator.create(spec(request=SandboxRequest(memory=4096)))
        assert (await running.orchestrator.status()).used.memory == 4096
        assert big.endpoint == f"{running.url}/v1/sandboxes/{big.id}/guest"


async def test_a_host_that_does_not_answer_is_unreachable(shared_tmp: Path) -> None:
    async with RemoteOrchestrator(f"unix:{shared_tmp}/none", KEY, patience=0.2) as remote:
        with pytest.raises(HostUnreachable, match="no answer"):
            await remote.status()


async def test_a_host_behind_a_gateway_that_does_not_reach_it_yet_is_waited_for() -> None:
    """What terminates TLS answers 502 while the daemon starts; that is not the daemon's word."""
    asked = 0

    async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        away = (b"502", b"text/html", b"away")
        status, kind, body = away if asked < 3 else (b"200", b"application/json", b'{"items": []}')
        head = b"HTTP/1.1 %b x\r\nConnection: close\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % (status, kind, len(body)) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(gateway, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with RemoteOrchestrator(url, KEY) as remote:
            assert await remote.list() == []
    assert asked == 3


@pytest.mark.parametrize(
    "text",
    ["", "ftp://x", "unix:here", "http://", "http://u@h", "http://h/?q=1", "h:1", "http://[x", "http://h:99999"],
)
def test_what_is_no_hosts_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="host"):
        Place.parse(text)
