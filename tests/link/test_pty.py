"""The terminal's WebSocket against a real server side of the protocol."""

import asyncio

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from squib.contracts import codec, errors
from squib.contracts.guest import PtyControl, PtyExit
from squib.link import GuestLink
from tests.link.stub import serving


class Server:
    """Echoes what is typed, says what it heard, and ends when asked to."""

    def __init__(self):
        self.heard = []

    async def __call__(self, reader, writer):
        ws = WSConnection(ConnectionType.SERVER)
        while data := await reader.read(65536):
            ws.receive_data(data)
            for event in ws.events():
                self.heard.append(event)
                writer.write(b"".join(map(ws.send, self.answers(event))))

    def answers(self, event):
        if isinstance(event, Request):
            # Output may be in the same packet as the acceptance.
            yield from (AcceptConnection(), BytesMessage(data=b"$ "), Ping(payload=b"p"))
        elif isinstance(event, BytesMessage) and event.data == b"exit\n":
            yield TextMessage(data=codec.dumps(PtyExit(3, None)).decode())
            yield CloseConnection(code=1000)
        elif isinstance(event, BytesMessage):
            yield BytesMessage(data=event.data)


async def test_a_terminal_echoes_resizes_and_tells_its_exit(shared_tmp):
    server = Server()
    async with serving(shared_tmp / "s", server) as endpoint, GuestLink(endpoint, "secret") as link:
        async with link.pty(cols=80, rows=24, command="sh -i") as pty:
            await pty.resize(100, 30)
            await pty.send(b"hi")
            output = b""
            async for data in pty:
                output += data
                if output.endswith(b"hi"):
                    await pty.send(b"exit\n")
        assert (output, pty.exit) == (b"$ hi", PtyExit(3, None))
    request = server.heard[0]
    assert request.target == "/terminal/pty?cols=80&rows=24&command=sh+-i"
    assert dict(request.extra_headers)[b"authorization"] == b"Bearer secret"
    texts = [e.data for e in server.heard if isinstance(e, TextMessage)]
    assert codec.loads(PtyControl, texts[0]) == PtyControl(100, 30)
    assert any(isinstance(e, Pong) for e in server.heard)


async def test_a_refusal_is_its_error(shared_tmp):
    class Refusing(Server):
        def answers(self, event):
            body = codec.dumps(errors.TooManyRequests("no more terminals").problem())
            length = [(b"content-length", str(len(body)).encode())]
            yield RejectConnection(status_code=429, headers=length, has_body=True)
            yield RejectData(data=body, body_finished=True)

    async with serving(shared_tmp / "s", Refusing()) as endpoint, GuestLink(endpoint, "t") as link:
        with pytest.raises(errors.TooManyRequests, match="no more terminals"):
            async with link.pty(cols=80, rows=24, command=None):
                pass


@pytest.mark.parametrize("text", ['{"exit_code": "x"}', "[]", "x" * 200_000])
async def test_rubbish_is_guest_unreachable(shared_tmp, text):
    class Hostile(Server):
        def answers(self, event):
            if isinstance(event, Request):
                yield from (AcceptConnection(), TextMessage(data=text))

    async with (
        serving(shared_tmp / "s", Hostile()) as endpoint,
        GuestLink(endpoint, "t") as link,
        link.pty(cols=80, rows=24, command=None) as pty,
    ):
        with pytest.raises(errors.GuestUnreachable):
            [data async for data in pty]


async def test_a_broken_connection_and_no_answer_are_errors(shared_tmp):
    class Gone(Server):
        def answers(self, event):
            yield AcceptConnection()
            raise ConnectionResetError

    async def silent(reader, writer):
        await asyncio.Event().wait()

    async with serving(shared_tmp / "s", Gone()) as endpoint, GuestLink(endpoint, "t") as link:
        with pytest.raises(errors.GuestUnreachable):
            async with link.pty(cols=80, rows=24, command=None) as pty:
                [data async for data in pty]
    async with serving(shared_tmp / "q", silent) as endpoint, GuestLink(endpoint, "t", timeout=0.1) as link:
        with pytest.raises(errors.GuestUnreachable, match="in time"):
            async with link.pty(cols=80, rows=24, command=None):
                pass
