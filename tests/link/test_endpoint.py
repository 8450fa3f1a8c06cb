"""Endpoints as text: a guest's own socket, or a path behind a host's proxy."""

import pytest

from squib.contracts.errors import InvalidRequest
from squib.link import guest_token, host_token
from squib.link.transport import Endpoint, parse_endpoint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("unix:/a/b", Endpoint(path="/a/b")),
        ("http://h:81/v1/x/guest/", Endpoint(host="h", port=81, prefix="/v1/x/guest")),
        ("https://h/x", Endpoint(host="h", port=443, tls=True, prefix="/x")),
        ("http+unix://%2FTmp%2Fa.sock/v1/x", Endpoint(path="/Tmp/a.sock", prefix="/v1/x")),
    ],
)
def test_an_endpoint_is_read(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize("text", ["", "http://", "http+unix:///x", "file:///etc/passwd", "h:1"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="endpoint"):
        parse_endpoint(text)


def test_a_hosts_token_is_no_guests() -> None:
    key = b"k" * 32
    assert host_token(key) != guest_token(key, "host")
    assert host_token(key) != host_token(b"l" * 32)
    assert len(host_token(key)) == 64
