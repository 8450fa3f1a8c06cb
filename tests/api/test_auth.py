"""Who may ask what: tokens, cookies, strangers, hosts and origins."""

import pytest

from squib.contracts.ids import new_id
from tests.api.conftest import assert_problem, client

TASK = "/api/v1/tasks/{task}"
ROUTES = [
    ("GET", TASK),
    ("POST", TASK + "/cancel"),
    ("POST", TASK + "/retry"),
    ("POST", TASK + "/messages"),
    ("GET", TASK + "/events"),
    ("GET", TASK + "/artifacts"),
    ("GET", TASK + "/artifacts/patch"),
    ("POST", TASK + "/terminal"),
    ("GET", TASK + "/files"),
    ("GET", TASK + "/files/content?path=a"),
    ("PUT", TASK + "/files/content?path=a"),
    ("GET", TASK + "/diff"),
]
OWN = [
    ("GET", "/api/v1/tasks"),
    ("POST", "/api/v1/tasks"),
    ("POST", "/api/v1/uploads?commit=" + "a" * 40),
    ("GET", "/api/v1/tokens"),
    ("POST", "/api/v1/tokens"),
    ("DELETE", "/api/v1/tokens/tok-00000000000000000000000000"),
    ("GET", "/api/v1/me"),
    ("GET", "/api/v1/info"),
    ("POST", "/api/v1/session"),
    ("DELETE", "/api/v1/session"),
]
BODIES = {
    "messages": {"prompt": "x"},
    "terminal": {"command": "true"},
    "tokens": {"name": "x"},
    "tasks": {"prompt": "x"},
}


def body_of(path):
    return BODIES.get(path.partition("?")[0].rsplit("/", 1)[1])


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_another_users_task_does_not_exist(api, method, path):
    task = await api.task()
    theirs = await api.stranger.request(method, path.format(task=task), json=body_of(path))
    absent = await api.stranger.request(method, path.format(task=new_id("task")), json=body_of(path))
    assert assert_problem(theirs, 404, "not_found").keys() == assert_problem(absent, 404, "not_found").keys()
    odd = await api.client.request(method, path.format(task="task-x"), json=body_of(path))
    assert_problem(odd, 404, "not_found")
    assert (await api.client.get(f"/api/v1/tasks/{task}")).json()["state"] == "queued"


@pytest.mark.parametrize(("method", "path"), [*ROUTES, *OWN])
async def test_without_a_token_nothing(api, method, path):
    task = await api.task()
    response = await api.anyone.request(method, path.format(task=task), json=body_of(path))
    assert_problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer wrong", "Bearer \x7f", "Bearer " + "x" * 5000, "Bearer \xe9"],
)
async def test_other_credentials(api, header):
    response = await api.anyone.get("/api/v1/me", headers={"Authorization": header.encode("latin-1")})
    assert_problem(response, 401, "unauthenticated")


async def test_bad_json_of_a_stranger_is_not_even_read(api):
    response = await api.anyone.post("/api/v1/tasks", content=b"{", headers={"Content-Type": "application/json"})
    assert_problem(response, 401)


async def test_a_token_in_the_query_lets_nobody_in(api):
    assert_problem(await api.anyone.get("/api/v1/me", params={"token": api.token}), 401)


async def test_a_revoked_token_is_refused(api):
    made = (await api.client.post("/api/v1/tokens", json={"name": "short"})).json()
    async with client(api.app, made["secret"]) as other:
        assert (await other.get("/api/v1/me")).json() == {"id": api.user}
        assert (await api.client.delete(f"/api/v1/tokens/{made['id']}")).status_code == 204
        assert_problem(await other.get("/api/v1/me"), 401)


async def test_opening_the_printed_url_lets_a_browser_in(api):
    response = await api.anyone.get("/", params={"token": api.token})
    assert (response.status_code, response.headers["location"]) == (303, "/")
    cookie = response.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert (await api.anyone.get("/api/v1/me")).json() == {"id": api.user}
    assert_problem(await api.client.get("/", params={"token": "wrong"}), 401)


async def test_a_session_is_made_and_ended(api):
    assert (await api.client.post("/api/v1/session")).status_code == 204
    del api.client.headers["Authorization"]
    own = {"Origin": "http://localhost"}
    assert (await api.client.get("/api/v1/me")).status_code == 200
    assert (await api.client.delete("/api/v1/session", headers=own)).status_code == 204
    assert_problem(await api.client.get("/api/v1/me"), 401)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Origin": "http://localhost"}, 202),
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Origin": "http://["}, 403),
    ],
)
async def test_with_a_cookie_only_our_own_page_may_change_something(api, headers, status):
    await api.anyone.get("/", params={"token": api.token})
    response = await api.anyone.post("/api/v1/tasks", json={"prompt": "x"}, headers=headers)
    assert response.status_code == status
    if status == 403:
        assert_problem(response, 403, "forbidden")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "", "127.0.0.1.nip.io:80", "[::2]", "a b", "localhost@evil.example"],
)
async def test_an_unknown_host_is_refused(api, host):
    assert_problem(await api.client.get("/api/v1/me", headers={"Host": host}), 421, "misdirected_request")
    assert (await api.anyone.get("/healthz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost:1", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080", "[::1]", "localhost:99999", "localhost:x"]
)
async def test_the_loopback_names_are_known(api, host):
    assert (await api.client.get("/api/v1/me", headers={"Host": host})).status_code == 200
    assert (await api.client.get("/", params={"token": api.token}, headers={"Host": host})).status_code == 303
    assert_problem(await api.anyone.get("/api/v1/me", headers={"Host": host}), 401)


async def test_every_answer_is_guarded(api):
    for path in ("/", "/api/v1/me", "/nothing", "/api/v1/openapi.json"):
        headers = (await api.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") for name in headers)
