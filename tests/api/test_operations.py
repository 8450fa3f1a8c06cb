"""Health, metrics, the router's own answers, the unexpected, and what the log may not hold."""

import asyncio

import pytest
import structlog

from squib.api.replies import dumps
from squib.contracts.errors import StoreUnavailable
from squib.contracts.event import Draft
from squib.contracts.task import Usage
from tests.api.conftest import assert_problem


async def test_health(api):
    for path in ("/healthz", "/readyz"):
        assert (await api.anyone.get(path)).json() == {"status": "ok"}


async def test_not_ready_without_a_database(api, monkeypatch):
    async def gone():
        raise StoreUnavailable("the database does not answer")

    monkeypatch.setattr(api.store, "ping", gone)
    response = await api.anyone.get("/readyz")
    assert_problem(response, 503, "store_unavailable")
    assert response.headers["retry-after"] == "1"
    assert (await api.anyone.get("/healthz")).status_code == 200


async def test_metrics_count_and_tell_no_content(api):
    task = await api.task("a secret prompt", labels={"hidden": "value"})
    await api.client.get(f"/api/v1/tasks/{task}")
    await api.client.get("/nothing/secret-path")
    await api.client.request("SECRET", "/")
    text = (await api.anyone.get("/metrics")).text
    assert 'squib_tasks{state="queued"} 1.0' in text
    assert 'squib_http_requests_total{method="GET",route="/api/v1/tasks/{task_id}",status="200"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert not any(word in text for word in ("secret", "SECRET", "hidden", task, api.user))


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/", "/api/v2/tasks", "/api/v1/tasks/", "/%00", "/%ff", "/docs"])
async def test_nothing_there(api, path):
    assert_problem(await api.client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/api/v1/tasks", "GET, POST"),
        ("GET", "/api/v1/session", "DELETE, POST"),
        ("PATCH", "/api/v1/tasks/task-x/files/content", "GET, PUT"),
        ("BREW", "/healthz", "GET"),
    ],
)
async def test_another_method(api, method, path, allow):
    response = await api.client.request(method, path)
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allow


async def test_the_unexpected_leaks_nothing(api, monkeypatch):
    def broken():
        raise RuntimeError("postgresql://user:password@host")

    monkeypatch.setattr(api.store.tasks, "counts", broken)
    with structlog.testing.capture_logs() as logs:
        response = await api.anyone.get("/metrics")
    assert_problem(response, 500, "internal")
    assert "password" not in response.text
    assert any(entry["event"] == "unexpected error" for entry in logs)


async def test_the_log_holds_no_query_and_no_token(api, port, capfd):
    with structlog.testing.capture_logs() as logs:
        await api.anyone.get("/", params={"token": api.token})
        await api.client.get("/api/v1/tasks", params={"label": "a=secret"})
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /api/v1/tasks/task-x/terminal/pty?token=" + api.token.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b"404" in await reader.readline()
        writer.close()
    assert {entry["path"] for entry in logs} >= {"/", "/api/v1/tasks", "/api/v1/tasks/task-x/terminal/pty"}
    written = str(logs) + "".join(capfd.readouterr())
    assert api.token not in written
    assert "secret" not in written


async def raw(port, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(65536), 10)
    writer.close()
    return answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://evil/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ],
)
async def test_odd_http_is_never_a_fault_of_ours(port, request_):
    status = (await raw(port, request_)).split()[1]
    assert status[:1] in (b"2", b"3", b"4")


def test_an_answer_is_json_whatever_an_agent_said():
    assert dumps(Draft("x", {"a": float("nan"), "b": [float("-inf")], "c": "\ud800", "☃": 1})) == (
        '{"type":"x","data":{"a":null,"b":[null],"c":"?","☃":1},"source":"scheduler","time":0.0}'.encode()
    )
    assert dumps(Usage(cost_usd=0.5)).endswith(b'"cost_usd":0.5}')
