"""Tokens, and what the installation says of itself."""

import pytest

from tests.api.conftest import assert_problem


async def test_a_token_is_made_shown_once_and_revoked(api):
    response = await api.client.post("/api/v1/tokens", json={"name": "ci"})
    assert response.status_code == 201
    made = response.json()
    listed = (await api.client.get("/api/v1/tokens")).json()["tokens"]
    assert [token["name"] for token in listed] == ["first", "ci"]
    assert made["secret"] not in (await api.client.get("/api/v1/tokens")).text
    assert_problem(await api.stranger.delete(f"/api/v1/tokens/{made['id']}"), 404, "not_found")
    assert (await api.client.delete(f"/api/v1/tokens/{made['id']}")).status_code == 204
    assert_problem(await api.client.delete(f"/api/v1/tokens/{made['id']}"), 404, "not_found")
    assert len((await api.client.get("/api/v1/tokens")).json()["tokens"]) == 1


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\x00", 5, None])
async def test_a_bad_name_is_named(api, name):
    assert_problem(await api.client.post("/api/v1/tokens", json={"name": name}), 422, "invalid_request", "name")


@pytest.mark.parametrize("token_id", ["x", "tok-", "tok-00000000000000000000000000", "%00"])
async def test_an_unknown_token(api, token_id):
    assert_problem(await api.client.delete(f"/api/v1/tokens/{token_id}"), 404, "not_found")


async def test_me_and_info(api):
    assert (await api.client.get("/api/v1/me")).json() == {"id": api.user}
    assert (await api.client.get("/api/v1/info")).json() == {
        "version": api.config.version,
        "default_agent": "mock",
        "agents": ["mock", "claude"],
        "drivers": ["bubblewrap", "process"],
        "images": [],
    }
