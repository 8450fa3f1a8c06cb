"""The gateway, over real sockets, between a real client and a real upstream."""

import asyncio
import json
import os
import stat
from pathlib import Path

import httpx2
import pytest

from squib.gateway import Gateway, Route
from squib.gateway import proxy as proxy_module
from tests.gateway.conftest import KEY, client_of, connected
from tests.link.stub import Reply


async def test_a_call_passes_with_the_key_and_comes_back(upstream, client):
    upstream.answer = lambda seen: Reply(b"pong", 201, {"Request-Id": "r1", "X-Echo": KEY, "Set-Cookie": "a=b"})
    async with client:
        answer = await client.post(
            "/anthropic/v1/messages?beta=true",
            content=b"ping",
            headers={"x-api-key": "held", "authorization": "Bearer held", "x-extra": "1", "anthropic-version": "v"},
        )
        again = await client.get("/anthropic/v1/models")
    assert (answer.status_code, answer.content, answer.headers["request-id"]) == (201, b"pong", "r1")
    assert KEY not in str(answer.headers) and "set-cookie" not in answer.headers
    assert again.status_code == 201
    first, second = upstream.seen
    assert (first.method, first.target, first.body) == ("POST", "/base/v1/messages?beta=true", b"ping")
    assert first.headers["x-api-key"] == KEY and first.headers["anthropic-version"] == "v"
    assert first.headers["host"] == upstream.url.removeprefix("http://")
    assert not {"authorization", "x-extra", "cookie"} & set(first.headers)
    assert (second.method, second.body) == ("GET", b"")
    assert upstream.connections == 1  # kept alive


async def test_a_chunked_body_is_streamed_up(upstream, client):
    async def pieces():
        for _ in range(30):
            yield b"x" * 100_000

    async with client:
        assert (await client.post("/anthropic/x", content=pieces())).status_code == 200
    assert len(upstream.seen[0].body) == 3_000_000
    assert "content-length" not in upstream.seen[0].headers


async def test_an_answer_is_streamed_down_at_once(upstream, client):
    """The upstream sends its second event only after the client has had the first."""
    had_first = asyncio.Event()

    async def raw(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n")
        await had_first.wait()
        writer.write(b"data: 2\n\n")

    upstream.raw = raw
    async with client, client.stream("GET", "/anthropic/events") as answer:
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b"data: 1\n\n"
        had_first.set()
        assert [c async for c in chunks] == [b"data: 2\n\n"]


async def test_an_unknown_prefix_is_refused(upstream, client):
    async with client:
        answer = await client.post("/openai/v1/chat", content=b"hello")
        assert (await client.get("/anthropic/x")).status_code == 200  # the socket still serves
    assert answer.status_code == 403 and answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "forbidden" and "/openai" in answer.json()["detail"]
    assert len(upstream.seen) == 1


async def test_a_redirect_is_not_followed(upstream, client):
    upstream.answer = lambda seen: Reply(b"", 302, {"Location": "http://169.254.169.254/latest"})
    async with client:
        answer = await client.get("/anthropic/x")
    assert answer.status_code == 302 and len(upstream.seen) == 1


async def test_an_upstream_that_fails_is_a_502_without_a_secret(client, upstream):
    async with client:
        answer = await client.post("/nowhere/x", content=b"x")
        assert answer.status_code == 502 and KEY not in answer.text
        assert "ConnectError" in answer.json()["detail"] and "retry" in answer.json()["error"]["message"]

        async def raw(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"not http\r\n\r\n")

        upstream.raw = raw
        assert (await client.get("/anthropic/x")).status_code == 502


async def test_an_answer_cut_short_is_cut_short_for_the_client(upstream, client):
    async def raw(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")

    upstream.raw = raw
    async with client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get("/anthropic/x")


@pytest.mark.parametrize("answering", [False, True])
async def test_a_client_that_leaves_ends_the_upstream_call(upstream, place, answering):
    called, ended = asyncio.Event(), asyncio.Event()

    async def raw(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if answering:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        called.set()
        try:
            await reader.read()
        finally:
            ended.set()

    upstream.raw = raw
    async with connected(place) as (reader, writer):
        writer.write(b"GET /anthropic/slow HTTP/1.1\r\nHost: g\r\n\r\n")
        await called.wait()
        if answering:
            assert await reader.readuntil(b"data: 1\n\n")
    await asyncio.wait_for(ended.wait(), 10)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: g\r\n\r\n", 400),
        (b"GET /anthropic/../x HTTP/1.1\r\nHost: g\r\n\r\n", 400),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: g\r\n\r\n", 400),
        (b"TRACE /anthropic/ HTTP/1.1\r\nHost: g\r\n\r\n", 400),
        (
            b"POST /anthropic/ HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            400,
        ),
        (b"POST /anthropic/ HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"POST /anthropic/ HTTP/1.1\r\nHost: g\r\nContent-Length: +3\r\n\r\nabc", 400),
        (b"POST /anthropic/ HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /anthropic/ HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET /anthropic/ HTTP/1.1\r\nHost: g\r\nX y: 1\r\n\r\n", 400),
        (b"GET /anthropic/ HTTP/1.1\r\nHost: g\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", 400),
        (b"POST /anthropic/ HTTP/1.1\r\nHost: g\r\nContent-Length: 99999999999\r\n\r\n", 413),
    ],
    ids=range(13),
)
async def test_what_is_no_plain_request_is_refused(upstream, speak, request_, status):
    answer = await speak(request_, half_close=False)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) in (status, 501)
    assert json.loads(body)["status"] == status
    assert not upstream.seen


async def test_a_body_over_the_bound_is_refused_on_its_way(upstream, client, monkeypatch):
    monkeypatch.setattr(proxy_module, "MAX_BODY_BYTES", 100_000)

    async def pieces():
        for _ in range(20):
            yield b"x" * 10_000

    async with client:
        answer = await client.post("/anthropic/x", content=pieces())
    assert answer.status_code == 413
    assert not upstream.seen


async def test_pipelined_requests_are_answered_in_order(upstream, speak):
    upstream.answer = lambda seen: Reply(seen.target.encode())
    one = b"GET /anthropic/%d HTTP/1.1\r\nHost: g\r\n\r\n"
    last = b"GET /anthropic/3 HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
    answer = await speak(one % 1 + one % 2 + last, half_close=False)
    assert [answer.find(b"/base/%d" % n) > 0 for n in (1, 2, 3)] == [True] * 3
    assert [seen.target for seen in upstream.seen] == ["/base/1", "/base/2", "/base/3"]


async def test_a_client_that_waits_for_100_is_told_to_go_on(upstream, place):
    async with connected(place) as (reader, writer):
        writer.write(b"POST /anthropic/ HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"hi")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert upstream.seen[0].body == b"hi" and "expect" not in upstream.seen[0].headers


async def test_a_socket_is_private_and_replaces_a_stale_one(upstream, gateway, shared_tmp):
    path = shared_tmp / "gateway.sock"
    path.write_text("left by another process")
    await gateway.open("mch-1", path, os.getuid())
    found = path.stat()
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600 and found.st_uid == os.getuid()
    await gateway.open("mch-1", path, None)
    async with client_of(path) as client:
        assert (await client.get("/anthropic/x")).status_code == 200
    await gateway.close("mch-1")
    await gateway.close("mch-1")
    assert list(shared_tmp.iterdir()) == []


async def test_closing_ends_calls_under_way(upstream, gateway, place):
    called = asyncio.Event()

    async def raw(reader, writer):
        called.set()
        await reader.read()

    upstream.raw = raw
    async with connected(place) as (reader, writer):
        writer.write(b"GET /anthropic/slow HTTP/1.1\r\nHost: g\r\n\r\n")
        await called.wait()
        await gateway.close("mch-1")
        assert await reader.read() == b""


async def test_a_machine_cannot_hold_more_than_its_connections(upstream, place):
    held = [await asyncio.open_unix_connection(place) for _ in range(70)]
    try:
        for _, writer in held:
            writer.write(b"GET /anthropic/x HTTP/1.1\r\nHost: g\r\n\r\n")
        answers = await asyncio.gather(*(reader.read(12) for reader, _ in held), return_exceptions=True)
        assert sum(answer == b"HTTP/1.1 200" for answer in answers) == 64
    finally:
        for _, writer in held:
            writer.transport.abort()


async def test_an_opening_that_is_cancelled_leaves_nothing_listening(gateway, shared_tmp):
    place = shared_tmp / "gateway.sock"
    opening = asyncio.create_task(gateway.open("mch-1", place, None))
    while not place.exists():  # noqa: ASYNC110
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await gateway.close("mch-1")
    assert str(place) not in Path("/proc/net/unix").read_text()


async def test_it_must_be_entered_first(shared_tmp):
    with pytest.raises(RuntimeError):
        await Gateway({"x": Route("https://x")}).open("mch-1", shared_tmp / "s", None)
