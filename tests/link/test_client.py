"""GuestLink against a small real server: requests, errors, reuse of connections, limits."""

import asyncio
import json
import os

import pytest

from squib.contracts import codec, errors, guest, ids
from squib.link import GuestLink, guest_token, token_digest
from tests.link.stub import Reply, problem, serving

HEALTH = guest.Health("sbx-1", "ep-1", "0.1", 1, 1.0, 2)
STATUS = guest.RunStatus("run-1", "mock", guest.RunState.RUNNING)
RESULT = guest.TerminalResult(0, None, False, 1.5, stdout="hi\n")
STATE = guest.GitState("a" * 40, "main", digest="d")


def test_tokens_are_derived_and_only_their_digest_is_told():
    token = guest_token(b"key", "mch-1")
    assert token == guest_token(b"key", "mch-1") != guest_token(b"key", "mch-2")
    assert len(token) == len(token_digest(token)) == 64 and token_digest(token) != token


async def test_small_calls_share_one_connection(stub, link):
    stub.answer = lambda seen: Reply(codec.dumps(HEALTH if seen.target == "/health" else STATUS))
    assert await link.health() == HEALTH
    request = guest.RunRequest("run-1", "mock", "do it", env={"A": "b"})
    assert await link.run(request) == STATUS
    assert await link.run_status() == STATUS
    assert await link.cancel(guest.CancelRequest("run-1")) == STATUS
    assert stub.connections == 1
    assert stub.seen[0].headers["authorization"] == "Bearer secret"
    assert codec.loads(guest.RunRequest, stub.seen[1].body) == request


async def test_no_run_is_none(stub, link):
    stub.answer = lambda seen: problem(errors.NotFound("nothing has run"))
    assert await link.run_status() is None


async def test_calls_at_once_each_have_a_connection(stub, link):
    stub.answer = lambda seen: Reply(codec.dumps(HEALTH))
    assert await asyncio.gather(*(link.health() for _ in range(20))) == [HEALTH] * 20


async def test_a_kept_connection_that_ended_is_replaced(stub, link):
    stub.answer = lambda seen: Reply(codec.dumps(HEALTH), close=True)
    for _ in range(3):
        assert await link.health() == HEALTH
    assert stub.connections == 3


async def test_a_command_is_never_sent_twice(shared_tmp):
    """The guest takes the request on a kept connection and dies: it may have run the command."""
    taken = []

    async def handler(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            taken.append(head.split()[1])
            if b"/terminal" in head:
                return
            body = codec.dumps(HEALTH)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async with serving(shared_tmp / "s", handler) as endpoint, GuestLink(endpoint, "t") as link:
        await link.health()
        with pytest.raises(errors.GuestUnreachable):
            await link.terminal(guest.TerminalRequest("rm -r x"))
        assert taken.count(b"/terminal") == 1


@pytest.mark.parametrize(
    ("sent", "raised"),
    [
        (errors.RunActive("busy"), errors.RunActive),
        (errors.PathEscapes("no", fields={"path": "leaves"}), errors.PathEscapes),
        (errors.RepositoryError("no such commit"), errors.RepositoryError),
        (errors.Unauthenticated("who"), errors.GuestUnreachable),
        (errors.LeaseLost("ha"), errors.InfrastructureError),  # not the guest's to say
        (errors.StoreUnavailable("ha"), errors.InfrastructureError),
        (errors.SquibError("bug"), errors.InfrastructureError),
    ],
)
async def test_a_problem_becomes_its_error(stub, link, sent, raised):
    stub.answer = lambda seen: problem(sent)
    with pytest.raises(raised) as caught:
        await link.health()
    assert type(caught.value) is raised
    if raised is type(sent):
        assert (caught.value.detail, caught.value.fields) == (sent.detail, sent.fields)


@pytest.mark.parametrize(
    "answer",
    [
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 302 Found\r\nLocation: /run\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 17_000_000,
        b"",
    ],
    ids=range(10),
)
async def test_rubbish_is_guest_unreachable(shared_tmp, answer):
    async def handler(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with serving(shared_tmp / "s", handler) as endpoint, GuestLink(endpoint, "t") as link:
        with pytest.raises(errors.GuestUnreachable):
            await link.health()


@pytest.mark.parametrize("drip", [False, True])
async def test_silence_and_a_drip_end_by_the_timeout(shared_tmp, drip):
    async def handler(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" if drip else b"")
        while drip:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)
        await reader.read()

    async with serving(shared_tmp / "s", handler) as endpoint, GuestLink(endpoint, "t", timeout=0.2) as link:
        with pytest.raises(errors.GuestUnreachable, match="in time"):
            await link.health()


async def test_no_socket_a_link_a_file_and_a_stranger_are_refused(stub, shared_tmp):
    (shared_tmp / "link").symlink_to(stub.path)
    (shared_tmp / "file").write_text("")
    os.mkfifo(shared_tmp / "fifo")
    for name in ("none", "link", "file", "fifo"):
        with pytest.raises(errors.GuestUnreachable):
            await GuestLink(f"unix:{shared_tmp / name}", "t").health()
    assert stub.connections == 0
    with pytest.raises(errors.GuestUnreachable, match="another user"):
        await GuestLink(stub.endpoint, "t", uid=os.getuid() + 1).health()
    stub.answer = lambda seen: Reply(codec.dumps(HEALTH))
    async with GuestLink(stub.endpoint, "t", uid=os.getuid()) as link:
        assert await link.health() == HEALTH


async def test_tcp_with_a_prefix(stub):
    stub.answer = lambda seen: Reply(codec.dumps(HEALTH))
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with GuestLink(f"http://127.0.0.1:{port}/machines/m1/", "t") as link:
            assert await link.health() == HEALTH
        assert stub.seen[0].target == "/machines/m1/health"
        assert stub.seen[0].headers["host"] == "127.0.0.1"
    with pytest.raises(errors.InvalidRequest):
        GuestLink("ftp://x", "t")


async def test_files_go_both_ways(stub, link, tmp_path):
    entry = guest.FileEntry("a b", "file", 3, 0o644, 1.0)
    stub.answer = lambda seen: Reply(codec.dumps(entry))
    assert await link.write("a b", b"x" * 300_000, 0o755) == entry
    assert stub.seen[-1].target == "/files/write?path=a+b&mode=755"
    assert stub.seen[-1].body == b"x" * 300_000

    async def pieces():
        yield b"one"
        yield b"two"

    await link.write("c", pieces())
    assert stub.seen[-1].body == b"onetwo"
    (tmp_path / "in").write_bytes(b"bundle")
    stub.answer = lambda seen: Reply(codec.dumps(STATE))
    assert await link.clone(tmp_path / "in", commit="c" * 40, branch="main") == STATE
    assert stub.seen[-1].body == b"bundle" and stub.seen[-1].target.endswith("&branch=main")
    stub.answer = lambda seen: Reply(b"0123456789")
    assert await link.read("f", 2, 5) == b"0123456789"
    assert [c async for c in link.read_stream("f")] == [b"0123456789"]
    assert await link.archive(tmp_path / "out", max_bytes=10) == 10
    with pytest.raises(errors.TooLarge):
        await link.archive(tmp_path / "big", max_bytes=9)
    assert not (tmp_path / "big").exists()
    with pytest.raises(errors.TooLarge):
        await link.diff(None, max_bytes=9)


async def test_the_source_of_an_upload_may_fail(stub, link):
    async def pieces():
        yield b"one"
        raise errors.TooLarge("the user sends too much")

    with pytest.raises(errors.TooLarge):
        await link.write("c", pieces())


async def test_a_refusal_is_heard_while_a_body_is_sent(shared_tmp):
    """The guest answers and reads no more; an unwatched upload would wait for it for ever."""
    answer = problem(errors.TooLarge("no room"))

    async def handler(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 X\r\nContent-Length: %d\r\n\r\n%s" % (len(answer.body), answer.body))
        await asyncio.Event().wait()

    async with serving(shared_tmp / "s", handler) as endpoint, GuestLink(endpoint, "t") as link:
        with pytest.raises(errors.TooLarge, match="no room"):
            await link.write("big", b"x" * 50_000_000)


async def test_push_saves_a_bundle_or_nothing(stub, link, tmp_path):
    stub.answer = lambda seen: Reply(status=204)
    assert await link.push(guest.PushRequest(), tmp_path / "b") is None
    assert not (tmp_path / "b").exists()
    stub.answer = lambda seen: Reply(b"bundle", headers={guest.GIT_HEADER: codec.dumps(STATE).decode()})
    assert await link.push(guest.PushRequest(), tmp_path / "b") == STATE
    assert (tmp_path / "b").read_bytes() == b"bundle"
    with pytest.raises(errors.TooLarge):
        await link.push(guest.PushRequest(), tmp_path / "c", max_bytes=5)
    stub.answer = lambda seen: Reply(b"bundle")
    with pytest.raises(errors.GuestUnreachable):
        await link.push(guest.PushRequest(), tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert stub.connections <= 2


def sse_reply(*frames):
    return Reply(b"".join(f + b"\n\n" for f in frames), headers={"Content-Type": guest.SSE})


async def test_events_come_in_order_and_the_stream_ends(stub, link):
    epoch = ids.new_id("ep")
    sent = [guest_event(epoch, n) for n in range(4, 2004)]
    stub.answer = lambda seen: sse_reply(b": hi", *(b"id: x\ndata: " + json.dumps(e).encode() for e in sent))
    got = [event async for batch in link.events(epoch, 3) for event in batch]
    assert [codec.encode(e) for e in got] == sent
    assert stub.seen[0].target == f"/events?after={epoch}%3A3"
    assert stub.seen[0].headers["accept"] == guest.SSE


def guest_event(epoch, n):
    return {"epoch": epoch, "n": n, "type": "agent.log", "time": 1.0, "source": "agent", "data": {"text": str(n)}}


@pytest.mark.parametrize("silent", [False, True])
async def test_events_that_break_off_or_fall_silent_are_an_error(shared_tmp, silent):
    epoch, got = ids.new_id("ep"), []

    async def handler(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        frame = b"data: " + json.dumps(guest_event(epoch, 1)).encode() + b"\n\n"
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(frame), frame))
        await writer.drain()
        if silent:
            await reader.read()

    async with serving(shared_tmp / "s", handler) as endpoint, GuestLink(endpoint, "t", timeout=0.2) as link:
        with pytest.raises(errors.GuestUnreachable):
            async for batch in link.events(None, 0):
                got += batch
    assert [e.n for e in got] == [1]


async def test_a_streamed_command_loses_no_byte(stub, link):
    stub.answer = lambda seen: sse_reply(
        b'event: stdout\ndata: {"text":"a\\u0000b"}',
        b'event: stderr\ndata: {"base64":"/wD+"}',
        b"event: exit\ndata: " + codec.dumps(RESULT),
    )
    got = [piece async for piece in link.terminal_stream(guest.TerminalRequest("x"))]
    assert got == [("stdout", b"a\x00b"), ("stderr", b"\xff\x00\xfe"), ("exit", RESULT)]
    stub.answer = lambda seen: sse_reply(b'event: stdout\ndata: {"text":"a"}')
    with pytest.raises(errors.GuestUnreachable):
        [piece async for piece in link.terminal_stream(guest.TerminalRequest("x"))]
    stub.answer = lambda seen: sse_reply(b'event: stdout\ndata: {"base64":"%%"}')
    with pytest.raises(errors.GuestUnreachable):
        [piece async for piece in link.terminal_stream(guest.TerminalRequest("x"))]
