import json

import pytest

from squib.client import endpoints
from squib.client.connection import Server
from squib.client.endpoints import Reply
from squib.client.errors import UnexpectedAnswer
from squib.contracts import errors
from squib.contracts.guest import TerminalRequest
from squib.contracts.task import TaskSpec, TaskState

JSON = {"content-type": "application/json"}


def test_a_task_is_always_created_under_a_key_of_its_own():
    first, second = endpoints.create_task(TaskSpec("a")), endpoints.create_task(TaskSpec("a"))
    assert first.repeatable
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]
    assert endpoints.create_task(TaskSpec("a"), "mine").headers["Idempotency-Key"] == "mine"


def test_only_what_may_be_sent_twice_is_repeatable():
    task = "task-1"
    assert not endpoints.send_message(task, "more").repeatable
    assert not endpoints.create_token("x").repeatable
    assert not endpoints.create_upload("0" * 40).repeatable
    assert endpoints.cancel_task(task).repeatable
    assert endpoints.retry_task(task).repeatable
    assert endpoints.get_task(task).repeatable
    assert endpoints.write_file(task, "a", b"x").repeatable
    assert not endpoints.write_file(task, "a").repeatable


def test_ids_and_names_cannot_leave_their_place_in_the_path():
    assert endpoints.get_task("../tokens?x#y").path == "/api/v1/tasks/..%2Ftokens%3Fx%23y"
    assert endpoints.download_artifact("task-1", "a/b").path == "/api/v1/tasks/task-1/artifacts/a%2Fb"


def test_a_list_asks_for_each_state_and_label():
    call = endpoints.list_tasks([TaskState.QUEUED, TaskState.IDLE], {"a": "1", "b": "2"}, "next", 7)
    assert list(call.params) == [
        ("limit", "7"),
        ("state", "queued"),
        ("state", "idle"),
        ("label", "a=1"),
        ("label", "b=2"),
        ("cursor", "next"),
    ]


@pytest.mark.parametrize(
    "kind",
    [errors.NotFound, errors.Conflict, errors.IdempotencyMismatch, errors.Unauthenticated, errors.HostFull],
)
def test_a_problem_document_becomes_its_error(kind):
    problem = kind("what went wrong", fields={"prompt": "is missing"}).problem()
    with pytest.raises(kind) as caught:
        endpoints.get_task("task-1").parse(Reply(kind.status, JSON, json.dumps(problem).encode()))
    assert caught.value.detail == "what went wrong"
    assert caught.value.fields == {"prompt": "is missing"}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, {}, b"<html>oops</html>"),
        Reply(404, {}, b"[]"),
        Reply(302, {"location": "https://elsewhere"}, b""),
        Reply(200, {}, b"<html>hello</html>"),
        Reply(200, JSON, b'{"id": 1}'),
        Reply(200, JSON, b"[1]"),
    ],
)
def test_what_is_not_squibs_answer_is_said_so(reply):
    with pytest.raises(UnexpectedAnswer):
        endpoints.get_task("task-1").parse(reply)


def test_a_field_that_a_newer_server_added_is_passed_over():
    token = endpoints.create_token("x").parse(Reply(201, JSON, b'{"id":"tok-1","name":"x","secret":"s","new":1}'))
    assert (token.id, token.secret) == ("tok-1", "s")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://host", "http://"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(errors.InvalidRequest) as caught:
        Server(url)
    assert "url" in caught.value.fields


def test_a_token_is_not_shown_and_a_local_server_needs_no_proxy():
    server = Server("http://127.0.0.1:1", "sqb_secret")
    assert "sqb_secret" not in repr(server)
    assert server.options()["trust_env"] is False
    assert Server("https://squib.example").options()["trust_env"] is True


def test_a_command_may_be_silent_to_its_own_limit():
    assert endpoints.run_terminal("task-1", TerminalRequest("sleep 90", timeout_seconds=100)).patience > 100
    assert endpoints.get_task("task-1").patience == 0
