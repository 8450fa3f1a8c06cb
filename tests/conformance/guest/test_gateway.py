"""The way out: the agent's loopback leads to the gateway's socket, also to one that was bound anew."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.conformance.guest.conftest import Guest

Boot = Callable[..., Awaitable[Guest]]
_ASK = """python3 -c '
import socket
s = socket.create_connection(("127.0.0.1", {port}))
s.sendall(b"ping"); s.shutdown(1)
print(s.makefile().read())'"""


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"pong for " + await reader.read())
    writer.close()


async def test_the_gateway_is_reached(boot: Boot, unused_tcp_port: int) -> None:
    guest = await boot(gateway="unix:/run/squib/gateway/gateway.sock", gateway_port=unused_tcp_port)
    place = guest.place.gateway_socket
    for _ in range(2):
        place.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(_answer, place)
        place.chmod(0o666)
        assert await guest.out(_ASK.format(port=unused_tcp_port)) == "pong for ping\n"
        server.close()
    assert "pong" not in (await guest.sh(_ASK.format(port=unused_tcp_port))).stdout
    await guest.link.health()
