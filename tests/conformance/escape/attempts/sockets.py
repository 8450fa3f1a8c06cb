"""Sockets: the host's by path and by name, families that reach past the network, and the network itself."""

import contextlib
import os
import socket
import struct
from collections.abc import Callable

from tests.conformance.escape.attempts.base import Bait, Shown, admitted, attempt, first

SECONDS = 0.7  # to wait for an answer: where there is a way, it takes a millisecond
#: Unix sockets whose owner does as it is told, on one system or the other.
_FAMOUS = (
    *("/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock"),
    *(
        "/run/crio/crio.sock",
        "/run/dbus/system_bus_socket",
        "/var/run/dbus/system_bus_socket",
        "/run/systemd/private",
    ),
    *("/run/systemd/journal/stdout", "/run/libvirt/libvirt-sock", "/run/snapd.socket", "/tmp/.X11-unix/X0"),
    *(
        "/run/user/0/bus",
        "/run/user/1000/bus",
        "/run/udev/control",
        "/var/run/nscd/socket",
        "/run/postgresql/.s.PGSQL.5432",
    ),
)
_EVERYDAY = frozenset({socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK})
_METADATA = ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254")


def _heard(connection: socket.socket, bait: Bait) -> str | None:
    """Evidence where the secret comes: only the bait knows it."""
    connection.settimeout(SECONDS)
    return "it answered with its secret" if bait.secret.encode() in connection.recv(256) else None


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@attempt(why="A socket of the host's is a door to whoever listens.", wins="it answers", shown=Shown.USER)
def host_socket_by_path(bait: Bait) -> str | None:
    """connect(2) to a unix socket of the host's by its path."""
    with socket.socket(socket.AF_UNIX) as unix:
        unix.settimeout(SECONDS)
        unix.connect(bait.socket)
        return _heard(unix, bait)


@attempt(
    why="A kernel of its own that asks outside for what lies in the workspace must not follow a link there.",
    wins="it answers",
    shown=Shown.USER,
)
def host_socket_by_link(bait: Bait) -> str | None:
    """A symbolic link in the workspace to a unix socket of the host's, and to its directory, then connect(2)."""
    os.symlink(bait.socket, "socket")
    os.symlink(os.path.dirname(bait.socket), "folder")

    def connect(path: str) -> str | None:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.settimeout(SECONDS)
            unix.connect(path)
            return _heard(unix, bait)

    return first(connect, ["socket", f"folder/{os.path.basename(bait.socket)}"])


@attempt(why="Docker's and the system bus's socket are root for whoever may speak there.", wins="one accepts")
def famous_sockets(bait: Bait) -> str | None:
    """connect(2) to the sockets of Docker, Podman, containerd, the system bus, systemd, libvirt, X and the like."""

    def connect(path: str) -> str:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.settimeout(SECONDS)
            unix.connect(path)
        return path

    return first(connect, _FAMOUS)


@attempt(why="Names in the abstract space need no file system to be reached.", wins="it answers", shown=Shown.USER)
def host_socket_by_abstract_name(bait: Bait) -> str | None:
    """connect(2) to an abstract unix socket of the host's."""
    with socket.socket(socket.AF_UNIX) as unix:
        unix.settimeout(SECONDS)
        unix.connect("\0" + bait.abstract)
        return _heard(unix, bait)


def _over_tcp(bait: Bait, port: int) -> Callable[[str], str | None]:
    def connect(address: str) -> str | None:
        with socket.create_connection((address, port), SECONDS) as connection:
            return f"{address}: {_heard(connection, bait)}"

    return connect


@attempt(
    why="squib's API, a database, a developer's servers listen on the host's loopback and its other addresses.",
    wins="one answers",
    shown=Shown.USER,
)
def host_ports(bait: Bait) -> str | None:
    """Connect by TCP to a server that listens on all addresses of the host, at each of them."""
    return first(_over_tcp(bait, bait.port), bait.addresses)


@attempt(why="UDP needs no answer to do harm.", wins="it answers", shown=Shown.USER)
def host_datagrams(bait: Bait) -> str | None:
    """Send a datagram to a server on all addresses of the host, at each of them."""

    def send(address: str) -> str | None:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as udp:
            udp.connect((address, bait.udp))
            udp.send(b"who is there?")
            return f"{address}: {_heard(udp, bait)}"

    return first(send, bait.addresses)


@attempt(why="The metadata service of a cloud gives its keys to whoever asks.", wins="it accepts a connection")
def metadata_service(bait: Bait) -> str | None:
    """Connect by TCP to the addresses where clouds put it."""

    def connect(address: str) -> str:
        socket.create_connection((address, 80), SECONDS).close()
        return address

    return first(connect, _METADATA)


@attempt(why="Names carry data out, and tell of what is inside.", wins="a name is resolved, or a query leaves")
def name_service(bait: Bait) -> str | None:
    """getaddrinfo(3) of a public name; a raw query to the resolvers of /etc/resolv.conf and to public ones."""
    with contextlib.suppress(OSError):
        return str(socket.getaddrinfo("example.com", 443)[0][4])
    servers = ["127.0.0.53", "1.1.1.1", "8.8.8.8", "2001:4860:4860::8888"]
    with contextlib.suppress(OSError), open("/etc/resolv.conf") as file:
        servers += [line.split()[1] for line in file if line.startswith("nameserver") and len(line.split()) > 1]
    query = bytes.fromhex("123401000001000000000000076578616d706c6503636f6d0000010001")

    def ask(server: str) -> str:
        with socket.socket(_family(server), socket.SOCK_DGRAM) as udp:
            udp.settimeout(SECONDS)
            udp.connect((server, 53))
            udp.send(query)
            return f"{server} answered {udp.recv(512)[:4]!r}"

    return first(ask, servers)


@attempt(why="Packets of one's own making pass as somebody else's.", wins="such a socket opens", shown=Shown.ROOT)
def raw_packets(bait: Bait) -> str | None:
    """Raw sockets of IPv4 and IPv6 and packet sockets."""
    kinds = {
        "ICMP": (socket.AF_INET, socket.SOCK_RAW, 1),
        "raw": (socket.AF_INET, socket.SOCK_RAW, 255),
        "ICMPv6": (socket.AF_INET6, socket.SOCK_RAW, 58),
        "packet": (17, socket.SOCK_RAW, 0x300),
        "packet datagram": (17, socket.SOCK_DGRAM, 0x300),
    }

    def make(name: str) -> str:
        socket.socket(*kinds[name]).close()
        return name

    return first(make, list(kinds))


@attempt(why="Echo requests find neighbours, and carry data.", wins="an answer comes from beyond")
def echo_requests(bait: Bait) -> str | None:
    """ICMP by the datagram socket that needs no right, to the host's addresses and to a public one."""

    def ping(address: str) -> str:
        with socket.socket(_family(address), socket.SOCK_DGRAM, 58 if ":" in address else 1) as icmp:
            icmp.settimeout(SECONDS)
            icmp.connect((address, 0))
            icmp.send(bytes((128 if ":" in address else 8, 0, 0, 0, 0, 0, 0, 1)))
            return f"{address} answered {icmp.recv(64)[:2]!r}"

    return first(ping, [a for a in (*bait.addresses, "8.8.8.8") if not a.startswith("127.") and a != "::1"])


@attempt(why="One datagram to many finds all neighbours at once.", wins="it can be sent beyond loopback")
def multicast(bait: Bait) -> str | None:
    """Send to multicast and broadcast addresses, over every interface but loopback."""

    def send(address: str) -> str | None:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as udp:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            udp.connect((address, 5353))
            udp.send(b"who is there?")
            return f"{address} from {udp.getsockname()[0]}"

    return first(send, ["224.0.0.251", "255.255.255.255", "ff02::fb%eth0", "ff02::1"])


@attempt(why="Who configures the network makes its own way out.", wins="an address or an interface is added")
def configure_the_network(bait: Bait) -> str | None:
    """Over netlink: a dummy interface, and an address for loopback."""
    interface = struct.pack("=BxHiII", 0, 0, 0, 1, 1) + struct.pack("=HH", 12, 3) + b"squib0\0\0"
    address = struct.pack("=BBBBI", 2, 8, 0, 0, 1) + struct.pack("=HH4s", 8, 2, bytes((127, 9, 9, 9)))
    messages = {"interface": (16, interface), "address": (20, address)}

    def ask(name: str) -> str | None:
        kind, body = messages[name]
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as route:
            route.settimeout(SECONDS)
            route.bind((0, 0))
            route.send(struct.pack("=IHHII", 16 + len(body), kind, 0x605, 1, 0) + body)
            answer = route.recv(4096)
        code = struct.unpack_from("=i", answer, 16)[0]
        return f"an {name} was added" if struct.unpack_from("=H", answer, 4)[0] == 2 and code == 0 else None

    return first(ask, list(messages))


@attempt(
    why="The kernel lists all sockets of the caller's network, and of nobody else's.",
    wins="the host's bait is listed",
    shown=Shown.USER,
)
def list_sockets(bait: Bait) -> str | None:
    """Look for the host's port and unix sockets in /proc/net and by netlink's sock_diag."""
    with contextlib.suppress(OSError), open("/proc/net/unix") as file:
        if bait.abstract in file.read():
            return "the abstract name is in /proc/net/unix"
    with contextlib.suppress(OSError), open("/proc/net/tcp") as file:
        if f":{bait.port:04X} " in file.read():
            return "the port is in /proc/net/tcp"
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as diagnosis:
        diagnosis.settimeout(SECONDS)
        diagnosis.send(
            struct.pack("=IHHII", 40, 20, 0x301, 1, 0)
            + struct.pack("=BBHIIIII", 1, 0, 0, 0xFFFFFFFF, 0, 1, 0, 0)[:24]
        )
        return "sock_diag names it" if bait.abstract.encode() in diagnosis.recv(1 << 20) else None


@attempt(
    why="AF_VSOCK reaches the hypervisor past every network rule.", wins="a connection is made, or the socket opens"
)
def hypervisor_socket(bait: Bait) -> str | None:
    """AF_VSOCK: the socket, and a connection to the host's number."""
    return first(lambda kind: admitted("socket", 40, int(kind), 0), ["1", "2"])


@attempt(why="The kernel's cryptography by sockets has been a way into it.", wins="the socket opens")
def kernel_cryptography(bait: Bait) -> str | None:
    """AF_ALG."""
    return admitted("socket", 38, socket.SOCK_SEQPACKET, 0)


@attempt(
    why="Each family is code that the kernel loads on demand, and that hardly anybody needs.",
    wins="one of them opens",
)
def rare_families(bait: Bait) -> str | None:
    """A socket of every family but unix, IPv4, IPv6 and netlink, of each kind."""
    tries = [(family, kind) for family in range(1, 48) if family not in _EVERYDAY for kind in (1, 2, 3, 5)]
    for family, kind in tries:
        with contextlib.suppress(OSError):
            if found := admitted("socket", family, kind, 0):
                return f"family {family}, kind {kind}: {found}"
    return None


@attempt(why="A file descriptor can be handed on through a socket: from outside none must come.", wins="one has come")
def descriptors_that_came_along(bait: Bait) -> str | None:
    """Look at what this process was started with besides its three standard descriptors."""
    own = {"pipe", "socket", "anon_inode"}
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if int(name) > 2 and target.partition(":")[0] not in own and not target.startswith("/proc/"):
                found.append(f"{name} -> {target}")
    return None if not found else str(found)
