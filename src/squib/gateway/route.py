"""Where a request may go, and which headers pass: pure rules."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Header = tuple[bytes, bytes]

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_QUERY = re.compile(r"[!-\"$-~]*")  # visible ASCII without '#'
_SLY = re.compile(r"%(2e|2f|5c)|//|/\.{1,2}(/|$)|%(?![0-9a-f]{2})", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
_NEVER_OUT = _HOP_BY_HOP | {b"authorization", b"x-api-key", b"cookie", b"host", b"expect"}
_NEVER_BACK = _HOP_BY_HOP | {b"set-cookie"}


@dataclass(frozen=True)
class Route:
    """One upstream. `headers` are added outside, and hidden from repr; `remove` are taken from the client's."""

    upstream: str  # an http(s) URL, with a path or without
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    remove: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError, which shows no header's value, for what can't be sent."""
        url = urlsplit(self.upstream)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or url.username:
            raise ValueError("an upstream is http(s)://HOST[:PORT][/PATH], without user, query or fragment")
        for name, value in self.headers.items():
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"the header {name!r} has a name or a value that can't be sent")


def match(routes: Mapping[str, Route], target: bytes) -> tuple[str, str] | None:
    """The route's name and the URL that `target` leads to; None where no route has its prefix.

    Raises ValueError for a target that is not a plain path: absolute, with dot segments, or with encoded slashes.
    """
    path, mark, query = target.decode("latin-1").partition("?")
    if not _PATH.fullmatch(path) or _SLY.search(path) or not _QUERY.fullmatch(query):
        raise ValueError("the request's target is not a plain path")
    name, slash, rest = path[1:].partition("/")
    if name not in routes:
        return None
    return name, routes[name].upstream.rstrip("/") + slash + rest + mark + query


def outgoing(route: Route, headers: Iterable[Header]) -> list[Header]:
    """The headers that go to the upstream: the client's, less what is not its to say, and the route's own."""
    given = [(name.lower(), value) for name, value in headers]
    dropped = _NEVER_OUT | _named_by_connection(given) | {n.lower().encode() for n in (*route.remove, *route.headers)}
    passed = [(name, value) for name, value in given if name not in dropped]
    return passed + [(name.lower().encode(), value.encode()) for name, value in route.headers.items()]


def incoming(route: Route, headers: Iterable[Header]) -> list[Header]:
    """The headers that go back to the client: none that is the hop's own, sets a cookie or echoes a secret."""
    given = [(name.lower(), value) for name, value in headers]
    secrets = [part for value in route.headers.values() for part in (value.encode(), *value.encode().split()[-1:])]
    dropped = _NEVER_BACK | _named_by_connection(given) | {n.lower().encode() for n in route.headers}
    return [(n, v) for n, v in given if n not in dropped and not any(len(s) >= 8 and s in v for s in secrets)]


def _named_by_connection(headers: Iterable[Header]) -> set[bytes]:
    return {
        option.strip().lower() for name, value in headers if name == b"connection" for option in value.split(b",")
    }
