"""What is shared without a network: the host's and neighbours' IPC, files, sockets; and the guest's own API."""

import contextlib
import ctypes
import http.client
import os
import socket
from pathlib import Path

from tests.conformance.escape.attempts.base import Bait, Inapplicable, Neighbour, Shown, attempt, first, libc

SECONDS = 3.0


def _neighbour(bait: Bait) -> Neighbour:
    if bait.neighbour is None:
        raise Inapplicable("there is no other machine here")
    return bait.neighbour


@attempt(why="System V shared memory has no path that a mount could hide.", wins="it is read", shown=Shown.USER)
def shared_memory(bait: Bait) -> str | None:
    """shmget(2) of the host's segment by its key, and every segment of the system by its number."""
    libc.shmat.restype = ctypes.c_void_p
    numbers = [libc.shmget(bait.key, 0, 0), *range(64)]
    for number in numbers:
        address = libc.shmat(number, None, 0o10000) if number >= 0 else None
        if address in (None, ctypes.c_void_p(-1).value):
            continue
        if bait.secret.encode() == ctypes.string_at(address, len(bait.secret)):
            return f"segment {number}"
    return None


@attempt(why="/dev/shm is where programs of one user find each other.", wins="it is read", shown=Shown.USER)
def shared_memory_by_path(bait: Bait) -> str | None:
    """Open the host's file in /dev/shm."""
    return bait.memory if bait.secret.encode() in Path(bait.memory).read_bytes() else None


@attempt(why="Message queues have names of their own.", wins="it opens", shown=Shown.USER)
def message_queue(bait: Bait) -> str | None:
    """mq_open(3) of the host's queue."""
    descriptor = libc.mq_open(bait.queue.encode(), os.O_RDONLY | os.O_NONBLOCK)
    return bait.queue if descriptor >= 0 else None


@attempt(why="Another task's work and socket are another person's.", wins="one of them opens")
def neighbours_files(bait: Bait) -> str | None:
    """Open the neighbour's workspace, guest socket, gateway socket and record by the host's paths."""
    place = _neighbour(bait).directory
    names = ("workspace/secret", "machine.json", "console.log", "state", "home", "guest/guest.sock")

    def reach(name: str) -> str:
        path = f"{place}/{name}"
        if name.endswith(".sock"):
            with socket.socket(socket.AF_UNIX) as unix:
                unix.settimeout(SECONDS)
                unix.connect(path)
        elif os.path.isdir(path):
            os.listdir(path)
        else:
            Path(path).read_bytes()
        return path

    return first(reach, names)


@attempt(why="The gateway knows a machine by its socket: with another's one spends in its name.", wins="it accepts")
def neighbours_gateway(bait: Bait) -> str | None:
    """connect(2) to the neighbour's gateway socket, by the host's path and by climbing from one's own."""
    place = _neighbour(bait).directory
    name = os.path.basename(place)

    def reach(path: str) -> str:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.settimeout(SECONDS)
            unix.connect(path)
        return path

    return first(reach, [f"{place}/gateway/gateway.sock", f"/run/squib/gateway/../../{name}/gateway/gateway.sock"])


@attempt(why="Machines share a host, not a network.", wins="it answers", shown=Shown.USER)
def neighbours_ports(bait: Bait) -> str | None:
    """Connect to what listens in the neighbour on all its addresses, by TCP and by an abstract unix name."""
    other = _neighbour(bait)

    def connect(address: str) -> str | None:
        with socket.create_connection((address, other.port), 0.7) as connection:
            return address if bait.secret.encode() in connection.recv(256) else None

    def by_name(name: str) -> str | None:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.settimeout(SECONDS)
            unix.connect("\0" + name)
            return name if bait.secret.encode() in unix.recv(256) else None

    return first(connect, ["127.0.0.1", *bait.addresses]) or first(by_name, [other.abstract])


class _Guest(http.client.HTTPConnection):
    """HTTP over the guest's own socket."""

    def __init__(self, path: str):
        super().__init__("guest", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


@attempt(
    why="The guest's API starts programs, moves files and renews the machine's lease: for the host alone.",
    wins="it answers below 400",
)
def own_guest_without_the_token(bait: Bait) -> str | None:
    """Ask this machine's guest without a token, with wrong ones, with the neighbour's, with the hash it holds."""
    tokens = [None, "", "Bearer ", "Bearer " + "0" * 64, *(f"Bearer {word}" for word in _hashes())]
    if bait.neighbour is not None:
        tokens.append(f"Bearer {bait.neighbour.token}")
    asked = 0
    for token in tokens:
        for method, path in (
            ("GET", "/health"),
            ("GET", "/health?token=x"),
            ("POST", "/resume"),
            ("POST", "/freeze"),
        ):
            with contextlib.suppress(OSError, http.client.HTTPException):
                guest = _Guest(bait.guest)
                guest.request(method, path, body=b"{}", headers={} if token is None else {"Authorization": token})
                status = guest.getresponse().status
                asked += 1
                if status < 400:
                    return f"{method} {path} with {token!r}: {status}"
    return None


def _hashes() -> list[str]:
    with contextlib.suppress(OSError):
        text = Path("/run/squib/config/guest.json").read_text()
        return [word for word in text.replace('"', " ").split() if len(word) == 64]
    return []


@attempt(why="A secret of the host's that is in here is the agent's.", wins="one is found")
def secrets_left_behind(bait: Bait) -> str | None:
    """Look for the installation's key and this machine's token in all environments, arguments and files of squib."""
    places = [
        f"/proc/{pid}/{name}" for pid in os.listdir("/proc") if pid.isdigit() for name in ("environ", "cmdline")
    ]
    for top in ("/run/squib", os.path.expanduser("~"), "/etc/squib", "/root"):
        for folder, _, names in os.walk(top):
            places += [f"{folder}/{name}" for name in names]

    def look(path: str) -> str | None:
        if not (path.startswith("/proc/") or os.path.isfile(path)):
            return None
        with open(path, "rb") as file:
            content = file.read(1 << 20)
        return path if any(secret.encode() in content for secret in bait.secrets) else None

    return first(look, places)
