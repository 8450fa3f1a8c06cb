"""The rules of what passes, as pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.gateway import Route
from squib.gateway.route import incoming, match, outgoing

ROUTES = {"anthropic": Route("https://api.example/base/", {"x-api-key": "sk-secret-1"}, ("X-Extra",))}


@pytest.mark.parametrize(
    ("target", "url"),
    [
        (b"/anthropic/v1/messages?beta=true", "https://api.example/base/v1/messages?beta=true"),
        (b"/anthropic/", "https://api.example/base/"),
        (b"/anthropic", "https://api.example/base"),
        (b"/anthropic/a.b/%20c?x=/../y", "https://api.example/base/a.b/%20c?x=/../y"),
        (b"/anthropics/v1", None),
        (b"/", None),
        (b"/other/v1", None),
    ],
)
def test_a_target_leads_below_its_own_prefix(target, url):
    found = match(ROUTES, target)
    assert found == (url and ("anthropic", url))


@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"",
        b"http://evil.example/anthropic/",
        b"//evil.example/",
        b"/anthropic/../x",
        b"/anthropic/..",
        b"/anthropic/./x",
        b"/anthropic/%2e%2E/x",
        b"/anthropic/a%2Fb",
        b"/anthropic/a\\b",
        b"/anthropic/a%5cb",
        b"/anthropic//x",
        b"/anthropic/%",
        b"/anthropic/%zz",
        b"/anthropic/\xff",
        b"/anthropic/a#b",
        b"/anthropic/?a#b",
        b"/anthropic/?a\nb",
        b"/anthropic@evil.example/..",
    ],
)
def test_sly_targets_are_refused(target):
    with pytest.raises(ValueError, match="not a plain path"):
        match(ROUTES, target)


@given(st.binary(max_size=40).map(lambda b: b"/anthropic" + b))
def test_no_target_leaves_the_upstream(target):
    try:
        found = match(ROUTES, target)
    except ValueError:
        return
    if found is not None:
        assert found[1].startswith("https://api.example/base")
        assert not {"..", "."} & set(found[1].removeprefix("https://").partition("?")[0].split("/"))


def test_the_key_is_added_and_what_the_client_claims_is_not():
    given_ = [
        (b"Host", b"gateway"),
        (b"Authorization", b"Bearer mine"),
        (b"X-API-Key", b"mine"),
        (b"Cookie", b"a=b"),
        (b"Connection", b"close, X-Hop"),
        (b"X-Hop", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Authorization", b"x"),
        (b"X-Extra", b"1"),
        (b"Anthropic-Version", b"2023-06-01"),
        (b"content-length", b"3"),
    ]
    assert outgoing(ROUTES["anthropic"], given_) == [
        (b"anthropic-version", b"2023-06-01"),
        (b"content-length", b"3"),
        (b"x-api-key", b"sk-secret-1"),
    ]


def test_no_header_brings_the_key_back():
    given_ = [
        (b"x-api-key", b"sk-secret-1"),
        (b"X-Debug", b"you sent sk-secret-1!"),
        (b"Set-Cookie", b"a=b"),
        (b"Connection", b"x-hop"),
        (b"X-Hop", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Request-Id", b"r1"),
    ]
    assert incoming(ROUTES["anthropic"], given_) == [(b"request-id", b"r1")]
    bearer = Route("https://x", {"Authorization": "Bearer tok-12345678"})
    assert incoming(bearer, [(b"x", b"tok-12345678"), (b"y", b"bearer")]) == [(b"y", b"bearer")]


def test_a_route_hides_its_headers_and_refuses_what_cannot_be_sent():
    assert "sk-secret" not in repr(ROUTES)
    for upstream in ("ftp://x", "https://", "https://u:p@x", "https://x/?q", "x"):
        with pytest.raises(ValueError, match="upstream"):
            Route(upstream)
    for headers in ({"a b": "x"}, {"a": "sk-secret\n"}, {"a": ""}, {"a": "sk-secret\u2028"}):
        with pytest.raises(ValueError, match="can't be sent") as caught:
            Route("https://x", headers)
        assert "sk-secret" not in str(caught.value)
