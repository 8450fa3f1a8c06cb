"""What the host lays out for an attacker to find: files, sockets, processes, memory. Removed when the block ends."""

import contextlib
import ctypes
import os
import secrets
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_IPC_CREAT, _IPC_RMID = 0o1000, 0
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Baits:
    """The host's part of `attempts.base.Bait`; `asked` counts those who have reached one of the sockets."""

    secret: str
    file: str
    socket: str
    abstract: str
    addresses: tuple[str, ...]
    port: int
    udp: int
    pid: int
    key: int
    memory: str
    queue: str
    asked: list[str]


@contextlib.contextmanager
def laid_out(directory: Path) -> Iterator[Baits]:
    """Lay them out; `directory` is one that other users can traverse."""
    secret = secrets.token_hex(16)
    name = f"squib-bait-{secret[:8]}"
    asked: list[str] = []
    with contextlib.ExitStack() as stack:
        file = directory / "bait"
        file.write_text(secret)
        file.chmod(0o644)
        tcp = stack.enter_context(_listening(socket.AF_INET6, ("::", 0), secret, asked))
        udp = stack.enter_context(_listening(socket.AF_INET6, ("::", 0), secret, asked, datagrams=True))
        unix = directory / "bait.sock"
        stack.enter_context(_listening(socket.AF_UNIX, str(unix), secret, asked))
        unix.chmod(0o777)
        stack.enter_context(_listening(socket.AF_UNIX, "\0" + name, secret, asked))
        pid = stack.enter_context(_process(secret))
        key = stack.enter_context(_segment(secret))
        memory = Path("/dev/shm", name)
        stack.callback(memory.unlink)
        memory.write_text(secret)
        memory.chmod(0o666)
        stack.enter_context(_queue(f"/{name}"))
        addresses = _addresses()
        yield Baits(secret, str(file), str(unix), name, addresses, tcp, udp, pid, key, str(memory), f"/{name}", asked)


def _addresses() -> tuple[str, ...]:
    """All of this host, loopback included; IPv4 also reaches a socket that listens on `::`."""
    found = [a for addresses in psutil.net_if_addrs().values() for a in addresses]
    return tuple(a.address for a in found if a.family in (socket.AF_INET, socket.AF_INET6))


@contextlib.contextmanager
def _listening(
    family: int, address: object, secret: str, asked: list[str], *, datagrams: bool = False
) -> Iterator[int]:
    """A server that answers whoever comes with the secret, and remembers that somebody came; gives its port."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(f"{address}: {self.client_address}")
            with contextlib.suppress(OSError):
                if datagrams:
                    self.request[1].sendto(secret.encode(), self.client_address)
                else:
                    self.request.sendall(secret.encode())

    base = socketserver.ThreadingUDPServer if datagrams else socketserver.ThreadingTCPServer
    kind = type("Bait", (base,), {"address_family": family, "daemon_threads": True, "allow_reuse_address": True})
    with kind(address, Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1] if family == socket.AF_INET6 else 0
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _process(secret: str) -> Iterator[int]:
    """A process with the secret among its arguments and in its environment."""
    argv = [sys.executable, "-c", "import sys; sys.stdin.read()", secret]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, env={"SQUIB_BAIT": secret}) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def _segment(secret: str) -> Iterator[int]:
    """System V shared memory that all may attach; gives its key."""
    key = int(secret[:7], 16)
    number = _libc.shmget(key, 4096, _IPC_CREAT | 0o666)
    assert number >= 0, os.strerror(ctypes.get_errno())
    try:
        _libc.shmat.restype = ctypes.c_void_p
        address = _libc.shmat(number, None, 0)
        ctypes.memmove(address, secret.encode(), len(secret))
        _libc.shmdt(ctypes.c_void_p(address))
        yield key
    finally:
        _libc.shmctl(number, _IPC_RMID, None)


@contextlib.contextmanager
def _queue(name: str) -> Iterator[None]:
    """A POSIX message queue that all may open."""
    before = os.umask(0)
    descriptor = _libc.mq_open(name.encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
    os.umask(before)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        os.close(descriptor)
        _libc.mq_unlink(name.encode())
