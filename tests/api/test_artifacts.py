"""Listing and downloading what is kept."""

import hashlib

import pytest

from tests.api.conftest import assert_problem

PATCH = b"--- a\n+++ b\n" + bytes(range(256))


@pytest.fixture
async def task(api):
    made = await api.task()

    async def chunks():
        yield PATCH

    await api.store.artifacts.put(made, "patch", "text/html", chunks())
    return made


async def test_the_list(api, task):
    artifacts = (await api.client.get(f"/api/v1/tasks/{task}/artifacts")).json()["artifacts"]
    assert [(a["name"], a["size"], a["sha256"]) for a in artifacts] == [
        ("patch", len(PATCH), hashlib.sha256(PATCH).hexdigest())
    ]


async def test_a_download_is_never_shown_as_a_page(api, task):
    response = await api.client.get(f"/api/v1/tasks/{task}/artifacts/patch")
    assert (response.status_code, response.content) == (200, PATCH)
    assert response.headers["content-disposition"] == f'attachment; filename="{task}-patch.patch"'
    assert response.headers["etag"] == f'"{hashlib.sha256(PATCH).hexdigest()}"'
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("range_", "part"),
    [
        ("bytes=0-3", PATCH[:4]),
        ("bytes=4-", PATCH[4:]),
        ("bytes=-5", PATCH[-5:]),
        ("bytes=10-99999", PATCH[10:]),
        ("bytes=-99999", PATCH),
    ],
)
async def test_a_range(api, task, range_, part):
    response = await api.client.get(f"/api/v1/tasks/{task}/artifacts/patch", headers={"Range": range_})
    assert (response.status_code, response.content) == (206, part)
    assert response.headers["content-range"].endswith(f"/{len(PATCH)}")


@pytest.mark.parametrize(
    "range_",
    ["bytes=5-2", "bytes=-0", "bytes=a-b", "lines=0-3", "bytes=", "bytes=0-1,3-4", "x", "bytes=1" + "0" * 30 + "-"],
)
async def test_an_odd_range_is_ignored(api, task, range_):
    response = await api.client.get(f"/api/v1/tasks/{task}/artifacts/patch", headers={"Range": range_})
    assert (response.status_code, response.content) == (200, PATCH)


async def test_a_range_beyond_the_end(api, task):
    response = await api.client.get(f"/api/v1/tasks/{task}/artifacts/patch", headers={"Range": "bytes=5000-"})
    assert_problem(response, 416, "range_not_satisfiable")
    assert response.headers["content-range"] == f"bytes */{len(PATCH)}"


async def test_what_the_client_has_already(api, task):
    url = f"/api/v1/tasks/{task}/artifacts/patch"
    etag = (await api.client.get(url)).headers["etag"]
    response = await api.client.get(url, headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (304, b"")
    response = await api.client.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert (response.status_code, response.content) == (200, PATCH)


@pytest.mark.parametrize("name", ["bundle", "nothing", "..%2Fpatch", "%00", "patch%0A", "x" * 300, "pat%2Fch"])
async def test_an_absent_one(api, task, name):
    assert_problem(await api.client.get(f"/api/v1/tasks/{task}/artifacts/{name}"), 404, "not_found")
