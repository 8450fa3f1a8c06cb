"""Into a live sandbox: a real guest behind the API."""

import asyncio
import json
from pathlib import Path

import httpx2
import pytest
import websockets

from squib.contracts.event import Draft
from squib.contracts.ids import new_id
from squib.contracts.sandbox import SandboxPhase
from squib.contracts.task import TaskState
from tests.api.conftest import application, assert_problem, served, until
from tests.api.guests import guest_of_task, said_to_be, task_in_sandbox


@pytest.fixture
async def guest(api, shared_tmp):
    async with guest_of_task(api, shared_tmp) as made:
        yield made


@pytest.fixture
async def silent(api, shared_tmp):
    """A task whose sandbox nobody need ask."""
    return await task_in_sandbox(api, new_id("sbx"), new_id("mch"), f"unix:{shared_tmp / 'none.sock'}")


def url(guest, rest):
    return f"/api/v1/tasks/{guest.task_id}/{rest}"


async def test_a_command(api, guest):
    body = {"command": "cat; echo oops >&2; pwd; exit 3", "stdin": "in\n"}
    response = await api.client.post(url(guest, "terminal"), json=body)
    assert response.status_code == 200
    result = response.json()
    assert (result["exit_code"], result["stdout"], result["stderr"]) == (3, f"in\n{guest.workspace}\n", "oops\n")
    response = await api.client.post(url(guest, "terminal"), json={"command": ["printf", "%s", "a b"], "cwd": "."})
    assert response.json()["stdout"] == "a b"


async def test_a_suspended_sandbox_goes_on_for_whoever_reaches_into_it(api, guest):
    await said_to_be(api, guest.task_id, TaskState.IDLE, SandboxPhase.SUSPENDED, "memory")
    async with api.store.signals.subscribe(f"control:{guest.task_id}") as worker, asyncio.TaskGroup() as group:
        asked = group.create_task(api.client.post(url(guest, "terminal"), json={"command": "echo awake"}))
        assert await worker.wait(10)
        assert await api.store.tasks.wanted_at(guest.task_id) > 0
        assert not asked.done()
        await said_to_be(api, guest.task_id, TaskState.IDLE, SandboxPhase.READY, None)
        await api.store.events.append(guest.task_id, [Draft("sandbox.resumed")])
    assert (asked.result().status_code, asked.result().json()["stdout"]) == (200, "awake\n")


async def test_a_sandbox_that_was_put_away_says_what_to_do(api, silent):
    await said_to_be(api, silent, TaskState.IDLE, None, "workspace")
    response = await api.client.post(f"/api/v1/tasks/{silent}/terminal", json={"command": "true"})
    assert "the next message gets a new one" in assert_problem(response, 409, "conflict")["advice"]


async def test_a_client_that_goes_ends_its_command(api, port, guest):
    body = json.dumps({"command": "echo $$ > pid; sleep 1000"}).encode()
    head = f"POST {url(guest, 'terminal')} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {api.token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + body)
    file = guest.workspace / "pid"
    await until(lambda: file.exists() and file.read_text().endswith("\n"))
    writer.close()
    await until(lambda: not Path(f"/proc/{file.read_text().strip()}").exists())


async def test_what_a_command_prints_is_only_text(api, guest):
    response = await api.client.post(url(guest, "terminal"), json={"command": r"printf '\377\000\355\240\200'"})
    assert response.json()["exit_code"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"command": ""}, "command"),
        ({"command": []}, "command"),
        ({"command": [""]}, "command"),
        ({"command": ["a", 1]}, "command"),
        ({"command": "a\x00"}, "command"),
        ({"command": "x", "timeout_seconds": 0}, "timeout_seconds"),
        ({"command": "x", "timeout_seconds": 3601}, "timeout_seconds"),
        ({"command": "x", "max_output_bytes": -1}, "max_output_bytes"),
        ({"command": "x", "max_output_bytes": 2**40}, "max_output_bytes"),
        ({"command": "x", "env": {"": "1"}}, "env"),
        ({"command": "x", "env": {"A=B": "1"}}, "env"),
    ],
)
async def test_bad_commands_are_named(api, silent, body, field):
    response = await api.client.post(f"/api/v1/tasks/{silent}/terminal", json=body)
    document = assert_problem(response, 422, "invalid_request")
    assert any(name.startswith(field) for name in document["fields"])


async def test_files(api, guest):
    content = bytes(range(256)) * 1000
    response = await api.client.put(url(guest, "files/content"), params={"path": "a/b ☃.bin"}, content=content)
    assert response.status_code == 200
    assert (response.json()["path"], response.json()["size"]) == ("a/b ☃.bin", len(content))
    assert (guest.workspace / "a" / "b ☃.bin").read_bytes() == content
    response = await api.client.get(url(guest, "files/content"), params={"path": "a/b ☃.bin"})
    assert (response.status_code, response.content) == (200, content)
    assert response.headers["content-disposition"] == "attachment"
    assert response.headers["content-type"] == "application/octet-stream"
    entries = (await api.client.get(url(guest, "files"), params={"depth": 2})).json()["entries"]
    assert [(entry["path"], entry["type"]) for entry in entries] == [("a", "directory"), ("a/b ☃.bin", "file")]


async def test_an_empty_file(api, guest):
    assert (await api.client.put(url(guest, "files/content?path=empty"))).status_code == 200
    response = await api.client.get(url(guest, "files/content?path=empty"))
    assert (response.status_code, response.content) == (200, b"")


async def test_paths_stay_in_the_workspace(api, guest):
    (guest.workspace / "link").symlink_to("/etc")
    for path in ("../x", "/etc/passwd", "a/../../x", "link/passwd"):
        for method in ("GET", "PUT"):
            response = await api.client.request(method, url(guest, "files/content"), params={"path": path})
            assert_problem(response, 400, "path_escapes")


async def test_a_download_that_breaks_off_is_no_whole_file(api, port, guest):
    with (guest.workspace / "big").open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    headers = {"Authorization": f"Bearer {api.token}"}
    async with (
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client,
        client.stream("GET", url(guest, "files/content?path=big")) as response,
    ):
        chunks = response.aiter_raw()
        await anext(chunks)
        guest.process.kill()
        with pytest.raises(httpx2.RemoteProtocolError):
            async for _ in chunks:
                pass


@pytest.mark.parametrize("path", ["", "a\x00b", "x" * 5000])
async def test_bad_paths_are_named(api, silent, path):
    response = await api.client.get(f"/api/v1/tasks/{silent}/files/content", params={"path": path})
    assert_problem(response, 422, "invalid_request", "path")


async def test_an_absent_file(api, guest):
    assert_problem(await api.client.get(url(guest, "files/content?path=nothing")), 404, "not_found")
    assert_problem(await api.client.get(url(guest, "files?path=nothing")), 404, "not_found")


async def test_a_file_over_the_bound(tmp_path, shared_tmp):
    async with application(tmp_path, max_file_bytes=1000) as api, guest_of_task(api, shared_tmp) as guest:
        response = await api.client.put(url(guest, "files/content?path=big"), content=b"x" * 1001)
        assert_problem(response, 413, "too_large")

        async def pieces():
            for _ in range(11):
                yield b"x" * 100

        response = await api.client.put(url(guest, "files/content?path=big"), content=pieces())
        assert_problem(response, 413, "too_large")
        assert not (guest.workspace / "big").exists()
        assert (await api.client.get(url(guest, "files"))).status_code == 200


async def test_the_diff(api, guest):
    assert_problem(await api.client.get(url(guest, "diff")), 409, "no_repository")
    commit = "git init -q && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x"
    assert (await api.client.post(url(guest, "terminal"), json={"command": commit})).json()["exit_code"] == 0
    (guest.workspace / "new").write_text("line\n")
    response = await api.client.get(url(guest, "diff"))
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/x-diff")
    assert b"+line" in response.content


@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("POST", "terminal", {"command": "true"}),
        ("GET", "files", None),
        ("GET", "files/content?path=a", None),
        ("PUT", "files/content?path=a", None),
        ("GET", "diff", None),
    ],
)
async def test_without_a_live_sandbox(api, method, rest, body):
    task = await api.task()
    document = assert_problem(
        await api.client.request(method, f"/api/v1/tasks/{task}/{rest}", json=body), 409, "conflict"
    )
    assert "Wait" in document["advice"]
    await api.ended(task)
    document = assert_problem(
        await api.client.request(method, f"/api/v1/tasks/{task}/{rest}", json=body), 409, "conflict"
    )
    assert "artifacts" in document["advice"]


async def test_a_dead_guest_is_said_to_be(api, silent):
    response = await api.client.post(f"/api/v1/tasks/{silent}/terminal", json={"command": "true"})
    assert_problem(response, 503, "guest_unreachable")


def connect(api, port, guest, query="", token=None, **headers):
    address = f"ws://localhost:{port}" + url(guest, "terminal/pty" + query)
    secret = api.token if token is None else token
    auth = {"Authorization": f"Bearer {secret}"} if secret else {}
    return websockets.connect(address, additional_headers=auth | headers)


async def read_until(socket, wanted):
    seen = b""
    async with asyncio.timeout(10):
        while wanted not in seen:
            seen += await socket.recv()
    return seen


async def test_a_terminal(api, port, guest):
    async with connect(api, port, guest, "?cols=91&rows=33&command=sh") as socket:
        await socket.send(b"stty size; echo a-$((1+1))\n")
        assert b"33 91" in await read_until(socket, b"a-2")
        await socket.send(json.dumps({"cols": 120, "rows": 40}))
        await socket.send(b"stty size; echo b-$((1+1))\n")
        assert b"40 120" in await read_until(socket, b"b-2")
        await socket.send(b"exit 7\n")
        async with asyncio.timeout(10):
            async for message in socket:
                last = message
    assert json.loads(last) == {"exit_code": 7, "signal": None}
    assert socket.close_code == 1000


async def test_a_terminal_that_is_left_ends_its_command(api, port, guest):
    file = guest.workspace / "pid"
    async with connect(api, port, guest, "?command=echo+$$>pid;exec+cat") as socket:
        await socket.send(b"x\n")
        await read_until(socket, b"x")
    await until(lambda: not api.app.state.services.terminals)
    await until(lambda: not Path(f"/proc/{file.read_text().strip()}").exists())


async def test_a_terminal_ends_with_its_guest(api, port, guest):
    async with connect(api, port, guest, "?command=cat") as socket:
        await socket.send(b"x\n")
        await read_until(socket, b"x")
        guest.process.kill()
        with pytest.raises(websockets.ConnectionClosed):
            async with asyncio.timeout(10):
                while True:
                    await socket.recv()
    assert socket.close_code == 1011


@pytest.mark.parametrize("text", ["rubbish", "{}", '{"cols": 0, "rows": 5}', '{"cols": 10, "rows": 5, "x": 1}', "[]"])
async def test_a_bad_control_closes_the_terminal(api, port, guest, text):
    async with connect(api, port, guest, "?command=cat") as socket:
        await socket.send(text)
        with pytest.raises(websockets.ConnectionClosed):
            async with asyncio.timeout(10):
                while True:
                    await socket.recv()
    assert socket.close_code == 1008


async def refusal(opening):
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with opening:
            pass
    response = caught.value.response
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.body)["status"] == response.status_code
    return response.status_code


async def test_who_may_open_a_terminal(api, port, guest, caplog):
    assert await refusal(connect(api, port, guest, token="")) == 401
    assert await refusal(connect(api, port, guest, token="wrong")) == 401
    assert await refusal(connect(api, port, guest, token=api.other_token)) == 404
    assert await refusal(connect(api, port, guest, "?token=wrong", token="")) == 401
    assert await refusal(connect(api, port, guest, "?cols=0")) == 422
    assert await refusal(connect(api, port, guest, Origin="https://evil.example")) == 403
    elsewhere = websockets.connect(
        f"ws://evil.example:{port}" + url(guest, "terminal/pty"), host="127.0.0.1", port=port
    )
    assert await refusal(elsewhere) == 421
    cookie = {"Cookie": f"squib_{port}={api.token}"}
    assert await refusal(connect(api, port, guest, token="", **cookie)) == 403
    assert await refusal(connect(api, port, guest, token="", **cookie, Origin="http://localhost:1")) == 403
    async with connect(api, port, guest, token="", **cookie, Origin=f"http://localhost:{port}"):
        pass
    async with connect(api, port, guest, f"?token={api.token}", token=""):
        pass
    assert "error" not in caplog.text.lower()


async def test_a_terminal_needs_a_live_sandbox(api, port, guest):
    guest.task_id = await api.task()
    assert await refusal(connect(api, port, guest)) == 409


async def test_only_so_many_terminals(tmp_path, shared_tmp):
    async with (
        application(tmp_path, max_terminals=1) as api,
        served(api.app) as port,
        guest_of_task(api, shared_tmp) as guest,
        connect(api, port, guest),
    ):
        assert await refusal(connect(api, port, guest)) == 429
