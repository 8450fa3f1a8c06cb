"""Events as a stream over a real server, and as pages."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import httpx2
import pytest
import uvicorn

from squib.api import server_config
from squib.contracts.event import Draft
from squib.contracts.task import TaskState
from tests.api.conftest import application, assert_problem, served, until

SSE = {"Accept": "text/event-stream"}


def frames(text):
    """The (id, event, data) of each frame; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            found.append(tuple(line.partition(": ")[2] for line in lines))
            assert [line.partition(":")[0] for line in lines] == ["id", "event", "data"]
    return found


def over_socket(api, port):
    headers = {"Authorization": f"Bearer {api.token}"}
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30)


@asynccontextmanager
async def following(api, port, task):
    """An open stream of the task's events."""
    url = f"/api/v1/tasks/{task}/events"
    async with over_socket(api, port) as client, client.stream("GET", url, headers=SSE) as response:
        yield response


def open_streams(api):
    return api.app.state.services.metrics.streams._value.get()


async def until_open(api, count):
    await until(lambda: open_streams(api) == count)


async def reads(response, count):
    """Read a stream until it has shown so many events."""
    text = ""
    async for chunk in response.aiter_text():
        text += chunk
        if len(found := frames(text[: text.rfind("\n\n") + 2])) >= count:
            return found
    raise AssertionError(f"the stream ended early: {text}")


async def test_a_stream_follows_the_task_to_its_end(api, port):
    task = await api.task()
    async with (
        over_socket(api, port) as client,
        client.stream("GET", f"/api/v1/tasks/{task}/events", headers=SSE) as r,
    ):
        assert r.status_code == 200
        assert r.headers["content-type"].startswith("text/event-stream")
        assert (r.headers["cache-control"], r.headers["x-accel-buffering"]) == ("no-store", "no")
        lease = await api.running(task)
        await api.store.events.append(task, [Draft("agent.message", {"text": "ö☃\n\n"})], lease=lease)
        await api.store.tasks.transition(lease, TaskState.SUCCEEDED, {"result": "done"})
        found = frames((await r.aread()).decode())
    assert [int(number) for number, _, _ in found] == [1, 2, 3, 4, 5]
    assert [kind for _, kind, _ in found][-2:] == ["agent.message", "task.succeeded"]
    event = json.loads(found[3][2])
    assert (event["task_id"], event["seq"], event["data"]) == (task, 4, {"text": "ö☃\n\n"})


@pytest.mark.parametrize(
    ("headers", "query", "first"),
    [
        ({}, "", 1),
        ({}, "?after=2", 3),
        ({"Last-Event-ID": "3"}, "?after=1", 4),
        ({"Last-Event-ID": "0"}, "?after=9", 1),
    ],
)
async def test_where_a_stream_goes_on(api, port, headers, query, first):
    task = await api.task()
    await api.ended(task)  # four events
    async with over_socket(api, port) as client:
        response = await client.get(f"/api/v1/tasks/{task}/events{query}", headers=SSE | headers)
    assert [int(number) for number, _, _ in frames(response.text)] == list(range(first, 5))


async def test_a_stream_behind_the_end_ends(api, port):
    task = await api.task()
    await api.ended(task)
    async with over_socket(api, port) as client:
        response = await client.get(f"/api/v1/tasks/{task}/events?after=4", headers=SSE)
    assert (response.status_code, frames(response.text)) == (200, [])


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "99999999999999999999", "", "1 2"])
async def test_a_bad_last_event_id_is_named(api, value):
    task = await api.task()
    response = await api.client.get(f"/api/v1/tasks/{task}/events", headers=SSE | {"Last-Event-ID": value})
    assert_problem(response, 422, "invalid_request", "Last-Event-ID")


@pytest.mark.parametrize(
    ("name", "value"), [("after", "-1"), ("after", "x"), ("after", "9" * 30), ("limit", "0"), ("limit", "1001")]
)
async def test_bad_parameters_are_named(api, name, value):
    task = await api.task()
    response = await api.client.get(f"/api/v1/tasks/{task}/events", params={name: value})
    assert_problem(response, 422, "invalid_request", name)


async def test_far_behind_the_end(api):
    task = await api.task()
    page = (await api.client.get(f"/api/v1/tasks/{task}/events", params={"after": 2**63 - 1, "limit": 1000})).json()
    assert page == {"events": [], "last": 1}


async def test_pages(api):
    task = await api.task()
    await api.ended(task)
    url = f"/api/v1/tasks/{task}/events"
    page = (await api.client.get(url, params={"limit": 2})).json()
    assert ([event["seq"] for event in page["events"]], page["last"]) == ([1, 2], 4)
    page = (await api.client.get(url, params={"after": 2})).json()
    assert ([event["type"] for event in page["events"]], page["last"]) == (["task.running", "task.succeeded"], 4)
    assert (await api.client.get(url, params={"after": 4})).json() == {"events": [], "last": 4}


async def test_silence_is_filled_with_comments(tmp_path):
    async with application(tmp_path, heartbeat_seconds=0.05) as api, served(api.app) as port:
        task = await api.task()
        async with following(api, port, task) as response:
            text = ""
            async for chunk in response.aiter_text():
                text += chunk
                if text.count(": heartbeat\n\n") == 3:
                    break
        assert len(frames(text)) == 1


async def test_a_client_that_goes_frees_its_reader_at_once(api, port):
    task = await api.task()
    async with following(api, port, task) as response:
        await reads(response, 1)
        assert open_streams(api) == 1
    await until_open(api, 0)


async def test_one_event_reaches_all(api, port):
    task = await api.task()
    async with asyncio.TaskGroup() as group:

        async def follow():
            async with following(api, port, task) as response:
                return await reads(response, 2)

        followers = [group.create_task(follow()) for _ in range(20)]
        await until_open(api, 20)
        await api.store.events.append(task, [Draft("agent.log", {"text": "x"})])
    assert {tuple(follower.result()) for follower in followers} == {tuple(followers[0].result())}


async def test_a_browser_follows_with_its_cookie(api, port):
    task = await api.task()
    await api.ended(task)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", follow_redirects=True) as browser:
        await browser.get("/", params={"token": api.token})
        response = await browser.get(f"/api/v1/tasks/{task}/events", headers=SSE)
    assert len(frames(response.text)) == 4


async def test_a_server_that_ends_ends_its_streams(api, capfd):
    """Without a word in the log, and so that the client knows to come back."""
    task = await api.task()
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(api.app, timeout_graceful_shutdown=0))
    with listener:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listener]))
            await until(lambda: server.started)
            async with following(api, listener.getsockname()[1], task) as response:
                server.should_exit = True
                text = (await response.aread()).decode()
    assert [kind for _, kind, _ in frames(text)] == ["task.queued"]
    assert "Traceback" not in "".join(capfd.readouterr())
