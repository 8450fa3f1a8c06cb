"""Submitting, showing, listing, cancelling, retrying tasks, and one more turn."""

import json

import pytest

from squib.contracts.task import TaskState
from tests.api.conftest import application, assert_problem

TASKS = "/api/v1/tasks"


async def test_a_prompt_alone_makes_a_task(api):
    response = await api.client.post(TASKS, json={"prompt": "Fix it."})
    assert response.status_code == 202
    task = response.json()
    assert response.headers["location"] == f"{TASKS}/{task['id']}"
    assert (task["state"], task["spec"]["agent"], task["spec"]["prompt"]) == ("queued", "mock", "Fix it.")
    assert "idempotency-replayed" not in response.headers
    assert await api.queue.get(1) == task["id"]
    assert (await api.client.get(f"{TASKS}/{task['id']}")).json()["id"] == task["id"]
    assert (await api.store.events.page(task["id"]))[0].type == "task.queued"


async def test_everything_that_a_task_may_say(api):
    body = {
        "prompt": "Fix it. ☃",
        "agent": "claude",
        "model": "some-model",
        "repository": {"url": "https://example.org/x.git", "ref": "feature/a.b"},
        "image": "python",
        "sandbox": {"driver": "process", "cpu": 1, "memory": 512, "disk": 1024},
        "limits": {"seconds": 60, "turn_seconds": 30, "idle_seconds": 10},
        "test_command": "make test",
        "labels": {"a": "b"},
    }
    response = await api.client.post(TASKS, json=body)
    assert response.status_code == 202
    spec = response.json()["spec"]
    assert spec["repository"] == {"url": "https://example.org/x.git", "ref": "feature/a.b", "upload": None}
    assert {**spec, "repository": body["repository"]} == body


class Shelf:
    """Images of an installation."""

    def names(self) -> list[str]:
        return ["node", "python"]

    def has(self, image: str) -> bool:
        return image in ("node", "python", "a" * 64)


async def test_an_image_is_one_that_is_here(tmp_path):
    async with application(tmp_path, images=Shelf()) as api:
        for image in ("python", "a" * 64):
            response = await api.client.post(TASKS, json={"prompt": "x", "image": image})
            assert response.json()["spec"]["image"] == image
        response = await api.client.post(TASKS, json={"prompt": "x", "image": "rust"})
        problem = assert_problem(response, 422, "invalid_request", "image")
        assert "node, python" in problem["detail"]
        assert "squib image build rust" in problem["advice"]
        assert (await api.client.get("/api/v1/info")).json()["images"] == ["node", "python"]


async def test_json_knows_one_kind_of_number(api):
    body = '{"prompt": "x", "limits": {"seconds": 6e1}, "sandbox": {"cpu": 2, "memory": 512.0}}'
    response = await api.client.post(TASKS, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 202
    spec = response.json()["spec"]
    assert (spec["limits"]["seconds"], spec["sandbox"]["memory"]) == (60, 512)


BAD = [
    ("{}", "prompt"),
    ('{"prompt": ""}', "prompt"),
    ('{"prompt": " \\n"}', "prompt"),
    ('{"prompt": 1}', "prompt"),
    ('{"prompt": null}', "prompt"),
    ('{"prompt": "a\\u0000b"}', "prompt"),
    ('{"prompt": "a\\ud800b"}', "prompt"),
    ('{"prompt": "x", "labels": {"a\\udfff": "b"}}', "labels"),
    ('{"prompt": "x", "model": "a\\u0000"}', "model"),
    ('{"prompt": "x", "image": ""}', "image"),
    ('{"prompt": "x", "image": "../x"}', "image"),
    ('{"prompt": "x", "image": "Python"}', "image"),
    ('{"prompt": "x", "sandbox": {"driver": "\\u0000"}}', "sandbox.driver"),
    ('{"prompt": "x", "repository": {"url": "https://a/\\u0000"}}', "repository.url"),
    ('{"prompt": "x", "limits": {"seconds": 1e400}}', "limits.seconds"),
    ('{"prompt": "x", "limits": {"seconds": 123456789012345678901234567890}}', "limits.seconds"),
    ('{"prompt": "x", "limits": {"seconds": true}}', "limits.seconds"),
    ('{"prompt": "x", "limits": {"seconds": 0}}', "limits.seconds"),
    ('{"prompt": "x", "limits": {"seconds": "5"}}', "limits.seconds"),
    ('{"prompt": "x", "limits": {"seconds": 1.5}}', "limits.seconds"),
    ('{"prompt": "x", "limits": []}', "limits"),
    ('{"prompt": "x", "sandbox": {"cpu": NaN}}', "body"),
    ('{"prompt": "x", "sandbox": {"cpu": 1e999}}', "sandbox.cpu"),
    ('{"prompt": "x", "sandbox": {"cpu": -Infinity}}', "body"),
    ('{"prompt": "x", "repository": {}}', "repository.url"),
    ('{"prompt": "x", "repository": {"url": "file:///etc"}}', "repository.url"),
    ('{"prompt": "x", "repository": {"url": "https://a", "ref": "-x"}}', "repository.ref"),
    ('{"prompt": "x", "extra": 1}', "extra"),
    ('{"prompt": "x", "sandbox": {"extra": 1}}', "sandbox.extra"),
    ('{"prompt": "x", "agent": "nobody"}', "agent"),
    ('{"prompt": "x", "sandbox": {"driver": "nothing"}}', "sandbox.driver"),
    ('{"prompt": "x"', "body"),
    ("", "body"),
    ("[]", "body"),
    ("null", "body"),
    ('"text"', "body"),
    ("[" * 100_000, "body"),
    ('{"prompt": "x", "labels": ' + '{"a":' * 50 + "1" + "}" * 50 + "}", None),
    ("1" * 10_000, "body"),
]


@pytest.mark.parametrize(("body", "field"), BAD, ids=[b[:60] for b, _ in BAD])
async def test_bad_input_names_the_field_and_changes_nothing(api, body, field):
    response = await api.client.post(TASKS, content=body, headers={"Content-Type": "application/json"})
    assert_problem(response, 422, "invalid_request", field)
    assert (await api.client.get(TASKS)).json() == {"tasks": [], "next": None}
    assert await api.queue.get(0) is None


@pytest.mark.parametrize("body", [b'{"prompt": "\xff"}', b"\xff\xfe", b"\xef\xbb\xbf{}", b"\x00"])
async def test_bytes_that_are_no_utf8(api, body):
    response = await api.client.post(TASKS, content=body, headers={"Content-Type": "application/json"})
    assert_problem(response, 422, "invalid_request", "body")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "/", "ü"])
async def test_another_content_type_is_415(api, kind):
    headers = {"Content-Type": kind.encode("latin-1")}
    response = await api.client.post(TASKS, content=b'{"prompt": "x"}', headers=headers)
    assert_problem(response, 415, "unsupported_media_type")


async def test_the_known_agents_are_listed(api):
    response = await api.client.post(TASKS, json={"prompt": "x", "agent": "nobody"})
    assert "mock, claude" in assert_problem(response, 422, field="agent")["detail"]


async def test_a_body_over_the_bound_is_413(api):
    body = json.dumps({"prompt": "x" * (api.config.max_body_bytes + 1)}).encode()
    headers = {"Content-Type": "application/json"}
    assert_problem(await api.client.post(TASKS, content=body, headers=headers), 413, "too_large")

    async def pieces():
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    assert_problem(await api.client.post(TASKS, content=pieces(), headers=headers), 413, "too_large")


async def test_the_same_key_gives_the_same_task(api):
    headers = {"Idempotency-Key": "k-1"}
    first = await api.client.post(TASKS, json={"prompt": "x"}, headers=headers)
    again = await api.client.post(TASKS, json={"prompt": "x"}, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    other = await api.client.post(TASKS, json={"prompt": "y"}, headers=headers)
    assert_problem(other, 422, "idempotency_mismatch")
    stranger = await api.stranger.post(TASKS, json={"prompt": "x"}, headers=headers)
    assert stranger.json()["id"] != first.json()["id"]
    assert len((await api.client.get(TASKS)).json()["tasks"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\u00e9"])
async def test_a_bad_key_is_named(api, key):
    headers = {"Idempotency-Key": key.encode("latin-1")}
    response = await api.client.post(TASKS, json={"prompt": "x"}, headers=headers)
    assert_problem(response, 422, field="Idempotency-Key")


async def test_an_upload_must_be_the_callers(api):
    async def bundle():
        yield b"# v2 git bundle\n"

    upload = await api.store.uploads.put(
        api.user, commit="a" * 40, base=None, branch=None, chunks=bundle(), max_bytes=1000
    )
    body = {"prompt": "x", "repository": {"upload": upload.id}}
    assert (await api.client.post(TASKS, json=body)).status_code == 202
    assert_problem(await api.stranger.post(TASKS, json=body), 404, "not_found", "repository.upload")
    body["repository"]["upload"] = "../../etc/passwd"
    assert_problem(await api.client.post(TASKS, json=body), 404, "not_found", "repository.upload")


async def test_listing_pages_and_filters(api):
    made = [await api.task(f"n{i}", labels={"n": str(i % 2), "x:y": "1=2"}) for i in range(5)]
    seen, cursor = [], None
    while True:
        page = (await api.client.get(TASKS, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [task["id"] for task in page["tasks"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == sorted(made, reverse=True)  # those of one millisecond come in any order
    for label in ("n=1", "n:1"):
        page = (await api.client.get(TASKS, params={"label": label})).json()
        assert [task["id"] for task in page["tasks"]] == sorted((made[3], made[1]), reverse=True)
    assert (await api.client.get(TASKS, params=[("label", "n=1"), ("label", "n=0")])).json()["tasks"] == []
    await api.client.post(f"{TASKS}/{made[0]}/cancel")
    page = (await api.client.get(TASKS, params=[("state", "cancelled"), ("state", "failed")])).json()
    assert [task["id"] for task in page["tasks"]] == [made[0]]
    assert (await api.stranger.get(TASKS)).json()["tasks"] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "many"),
        ("state", "asleep"),
        ("label", "novalue"),
        ("label", "a=\x00"),
        ("cursor", "rubbish"),
        ("cursor", "\x00"),
        ("cursor", "9" * 400),
        ("cursor", "x" * 501),
    ],
)
async def test_bad_filters_are_named(api, name, value):
    response = await api.client.get(TASKS, params={name: value})
    document = assert_problem(response, 422, "invalid_request")
    assert any(field.startswith(name) for field in document["fields"])


async def test_cancel_is_idempotent_until_the_end(api):
    task = await api.task()
    lease = await api.running(task)
    first = await api.client.post(f"{TASKS}/{task}/cancel", json={"reason": "changed my mind"})
    assert first.status_code == 202
    assert first.json()["cancel_requested"]
    assert (await api.client.post(f"{TASKS}/{task}/cancel")).status_code == 202
    asked = [event for event in await api.store.events.page(task) if event.type == "task.cancel_requested"]
    assert len(asked) == 1
    await api.store.tasks.transition(lease, TaskState.CANCELLED, {"reason": "asked"})
    assert_problem(await api.client.post(f"{TASKS}/{task}/cancel"), 409, "conflict")
    assert_problem(await api.client.post(f"{TASKS}/{task}/cancel", json={"reason": "x" * 1001}), 422, field="reason")


async def test_retry_starts_an_ended_task_again(api):
    task = await api.task("again", labels={"a": "b"})
    assert_problem(await api.client.post(f"{TASKS}/{task}/retry"), 409, "conflict")
    await api.ended(task)
    headers = {"Idempotency-Key": "once"}
    first = await api.client.post(f"{TASKS}/{task}/retry", headers=headers)
    assert first.status_code == 202
    new = first.json()
    assert (new["retry_of"], new["state"], new["spec"]["labels"]) == (task, "queued", {"a": "b"})
    again = await api.client.post(f"{TASKS}/{task}/retry", headers=headers)
    assert again.json()["id"] == new["id"]
    assert await api.queue.get(1) == new["id"]


async def test_one_more_prompt(api):
    task = await api.task()
    await api.running(task)
    response = await api.client.post(f"{TASKS}/{task}/messages", json={"prompt": "more"})
    assert response.status_code == 202
    message = response.json()
    assert (message["task_id"], message["turn"], message["prompt"]) == (task, 2, "more")
    assert_problem(await api.client.post(f"{TASKS}/{task}/messages", json={"prompt": ""}), 422, field="prompt")


async def test_an_ended_task_takes_no_prompt(api):
    task = await api.task()
    await api.ended(task)
    assert_problem(await api.client.post(f"{TASKS}/{task}/messages", json={"prompt": "more"}), 409, "conflict")
