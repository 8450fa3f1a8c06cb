"""The only way in and out of a virtual machine's room: bytes from one socket to the other, both ways.

Runs by itself, as the machine's user in its room, under any CPython >= 3.11 with nothing but its standard library:

    relay.py LIFE GUEST_PORT GUEST_SOCKET GATEWAY_PORT GATEWAY_SOCKET

It waits until the guest accepts connections, and only then makes GUEST_SOCKET; each client there gets a connection to
the guest. Whoever in the machine connects to GATEWAY_PORT of the room's address gets one to GATEWAY_SOCKET. It ends
when LIFE, a pipe whose other end the machine holds, is closed. It imports little: one runs for each machine.
"""

import errno
import os
import select
import socket
import sys
from collections.abc import Callable

ROOM, GUEST = "10.0.0.1", "10.0.0.2"
MAX_PAIRS = 256  # connections at once; more wait
CHUNK = 65_536
#: A SYN that reached the machine before its network did may be lost: rather ask again than wait for the kernel's
#: second one, which comes after a second. A machine that refuses is still booting, and has to work for each refusal.
PROBE_SECONDS, REFUSED_SECONDS = 0.05, 0.03
_IN, _OUT = select.EPOLLIN | select.EPOLLRDHUP, select.EPOLLOUT
_UNDER_WAY = (0, errno.EINPROGRESS)  # EAGAIN of a unix socket: its backlog is full, and nothing is on its way


class Side:
    """One end of a pair. `waiting` is what it has yet to be sent; nothing more is read for it before that is gone."""

    def __init__(self, sock: socket.socket, *, connected: bool):
        self.sock, self.connected = sock, connected
        self.other: Side
        self.waiting = b""
        self.ended = False  # it has sent all that it will
        self.shut = False  # it has been told that the other one has

    def wanted(self) -> int:
        """What to wait for."""
        reads = self.connected and not self.ended and self.other.connected and not self.other.waiting
        return (_IN if reads else 0) | (_OUT if self.waiting or not self.connected else 0)


class Relay:
    """One loop over all sockets, by descriptor."""

    def __init__(self, life: int):
        self._life = life
        self._poll = select.epoll()
        self._listeners: dict[int, tuple[socket.socket, Callable[[], socket.socket]]] = {}
        self._sides: dict[int, Side] = {}
        self._masks: dict[int, int] = {}
        self._poll.register(life, select.EPOLLHUP)

    def listen(self, listener: socket.socket, dial: Callable[[], socket.socket]) -> None:
        """Accept there; `dial` begins a connection to the far end."""
        listener.setblocking(False)
        listener.listen(MAX_PAIRS)
        self._listeners[listener.fileno()] = (listener, dial)
        self._poll.register(listener.fileno(), select.EPOLLIN)

    def run(self, until: Callable[[], float | None]) -> None:
        """Relay until the machine ends. `until` says how many seconds may go before it is asked again; None: all."""
        while True:
            pause = until()
            for descriptor, events in self._poll.poll(pause):
                if descriptor == self._life:
                    return
                if descriptor in self._listeners:
                    self._accept(*self._listeners[descriptor])
                elif descriptor in self._sides:
                    self._serve(self._sides[descriptor], events)

    def _accept(self, listener: socket.socket, dial: Callable[[], socket.socket]) -> None:
        if len(self._sides) >= 2 * MAX_PAIRS:
            self._pause_accepting()
            return
        try:
            near, _ = listener.accept()
        except OSError:
            return
        near.setblocking(False)
        try:
            far = dial()
        except OSError:
            near.close()
            return
        one, two = Side(near, connected=True), Side(far, connected=False)
        one.other, two.other = two, one
        for side in (one, two):
            _no_delay(side.sock)
            self._sides[side.sock.fileno()] = side
        self._update(one)
        self._update(two)

    def _serve(self, side: Side, events: int) -> None:
        try:
            if not side.connected and events & (_OUT | select.EPOLLHUP | select.EPOLLERR):
                if (code := side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
                    raise OSError(code, os.strerror(code))
                side.connected = True
            if side.waiting and side.connected:
                self._send(side)
            if side.wanted() & _IN and events & (_IN | select.EPOLLHUP | select.EPOLLERR):
                self._receive(side)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(side)
            return
        self._update(side)
        self._update(side.other)

    def _receive(self, side: Side) -> None:
        data = side.sock.recv(CHUNK)
        if data:
            side.other.waiting = data
            self._send(side.other)
            return
        side.ended = True
        self._shut(side.other)

    def _send(self, side: Side) -> None:
        try:
            sent = side.sock.send(side.waiting)
        except BlockingIOError:
            return
        except OSError:  # it takes no more, but what it has sent may still be on its way
            side.waiting, side.shut, side.other.ended = b"", True, True
            return
        side.waiting = side.waiting[sent:]
        self._shut(side)

    def _shut(self, side: Side) -> None:
        """Hand a half-close over once everything before it is through."""
        if side.other.ended and not side.waiting and not side.shut:
            side.shut = True
            side.sock.shutdown(socket.SHUT_WR)

    def _update(self, side: Side) -> None:
        """Watch for what is wanted now; a pair that is through is closed."""
        if side.shut and side.other.shut:
            self._drop(side)
            return
        descriptor, mask = side.sock.fileno(), side.wanted()
        if descriptor not in self._sides or self._masks.get(descriptor, 0) == mask:
            return
        if mask == 0:  # not only masked: a hang-up is told whatever is asked for
            self._poll.unregister(descriptor)
            del self._masks[descriptor]
            return
        if descriptor in self._masks:
            self._poll.modify(descriptor, mask)
        else:
            self._poll.register(descriptor, mask)
        self._masks[descriptor] = mask

    def _drop(self, side: Side) -> None:
        for each in (side, side.other):
            descriptor = each.sock.fileno()
            if self._sides.pop(descriptor, None) is not None:
                if self._masks.pop(descriptor, None) is not None:
                    self._poll.unregister(descriptor)
                each.sock.close()
        for descriptor in self._listeners:
            self._poll.modify(descriptor, select.EPOLLIN)

    def _pause_accepting(self) -> None:
        for descriptor in self._listeners:
            self._poll.modify(descriptor, 0)


class Knock:
    """Tries until the guest accepts a connection, then opens the way in."""

    def __init__(self, relay: Relay, port: int, path: str):
        self._relay, self._port, self._path = relay, port, path
        self._open = False

    def __call__(self) -> float | None:
        """Try once; gives how long to wait before the next time."""
        if self._open:
            return None
        try:
            with self.dial() as tried:
                ready = select.select([], [tried], [], PROBE_SECONDS)[1]
                answers = ready and tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        except OSError:
            return REFUSED_SECONDS
        if answers:
            self._relay.listen(_unix_listener(self._path), self.dial)
            self._open = True
            return None
        return REFUSED_SECONDS if ready else 0.0

    def dial(self) -> socket.socket:
        """Begin a connection to the guest."""
        return _dial(socket.AF_INET, (GUEST, self._port))


def _dial(family: int, address: tuple[str, int] | str) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    code = made.connect_ex(address)
    if code not in _UNDER_WAY:
        made.close()
        raise OSError(code, os.strerror(code))
    return made


def _unix_listener(path: str) -> socket.socket:
    """Bound under another name first: whoever finds the name finds somebody listening."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    draft = path + "~"
    for stale in (draft, path):
        if os.path.lexists(stale):
            os.unlink(stale)  # noqa: PTH108
    before = os.umask(0o177)
    made.bind(draft)
    os.umask(before)
    made.listen(MAX_PAIRS)
    os.rename(draft, path)  # noqa: PTH104
    return made


def _no_delay(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main(life: int, guest_port: int, guest_socket: str, gateway_port: int, gateway_socket: str) -> None:
    """Relay until the machine ends."""
    relay = Relay(life)
    inward = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    inward.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    inward.bind((ROOM, gateway_port))
    relay.listen(inward, lambda: _dial(socket.AF_UNIX, gateway_socket))
    relay.run(Knock(relay, guest_port, guest_socket))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])
