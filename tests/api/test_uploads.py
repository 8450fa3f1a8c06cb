"""Sending in a git bundle."""

import asyncio
import hashlib

import pytest

from squib.contracts.guest import BUNDLE
from tests.api.conftest import application, assert_problem, until

BODY = b"# v2 git bundle\n" + b"a" * 40 + b" HEAD\n\nPACK"
COMMIT, BASE = "a" * 40, "b" * 64
URL = "/api/v1/uploads"
TYPE = {"Content-Type": BUNDLE}


async def test_a_bundle_is_kept(api):
    params = {"commit": COMMIT, "base": BASE, "branch": "feature/x"}

    async def pieces():
        for start in range(len(BODY)):  # the signature arrives byte by byte
            yield BODY[start : start + 1]

    response = await api.client.post(URL, params=params, content=pieces(), headers=TYPE)
    assert response.status_code == 201
    upload = response.json()
    assert (upload["size"], upload["sha256"]) == (len(BODY), hashlib.sha256(BODY).hexdigest())
    assert {name: upload[name] for name in params} == params
    _, path = await api.store.uploads.open(upload["id"], api.user)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "commit"),
        ({"commit": "HEAD"}, "commit"),
        ({"commit": COMMIT[:-1]}, "commit"),
        ({"commit": COMMIT + "\n"}, "commit"),
        ({"commit": COMMIT.upper()}, "commit"),
        ({"commit": COMMIT, "base": "x"}, "base"),
        ({"commit": COMMIT, "branch": "-x"}, "branch"),
        ({"commit": COMMIT, "branch": "a..b"}, "branch"),
        ({"commit": COMMIT, "branch": "a\x00"}, "branch"),
        ({"commit": COMMIT, "branch": "a\n"}, "branch"),
        ({"commit": COMMIT, "branch": ""}, "branch"),
        ({"commit": COMMIT, "branch": "x" * 256}, "branch"),
    ],
)
async def test_bad_parameters_are_named(api, params, field):
    assert_problem(
        await api.client.post(URL, params=params, content=BODY, headers=TYPE), 422, "invalid_request", field
    )


@pytest.mark.parametrize("body", [b"", b"# v2", b"PK\x03\x04" * 10, b"# v9 git bundle\n"])
async def test_what_is_no_bundle_is_not_kept(api, tmp_path, body):
    response = await api.client.post(URL, params={"commit": COMMIT}, content=body, headers=TYPE)
    assert_problem(response, 422, "invalid_request", "body")
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


async def test_another_content_type(api):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await api.client.post(URL, params={"commit": COMMIT}, content=BODY, headers=headers)
    assert_problem(response, 415, "unsupported_media_type")


async def test_a_client_that_goes_leaves_nothing(api, port, tmp_path):
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {URL}?commit={COMMIT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {api.token}\r\n"
    writer.write(f"{head}Content-Type: {BUNDLE}\r\nContent-Length: 1000\r\n\r\n".encode() + BODY)
    directory = tmp_path / "files" / "uploads"
    await until(lambda: directory.exists() and list(directory.iterdir()))
    writer.close()
    await until(lambda: not list(directory.iterdir()))


async def test_over_the_bound(tmp_path):
    async with application(tmp_path, max_upload_bytes=len(BODY)) as api:

        async def pieces():
            yield BODY
            yield b"x"

        for content in (BODY + b"x", pieces()):
            response = await api.client.post(URL, params={"commit": COMMIT}, content=content, headers=TYPE)
            assert_problem(response, 413, "too_large")
        assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []
        assert (await api.client.post(URL, params={"commit": COMMIT}, content=BODY, headers=TYPE)).status_code == 201
