"""The OpenAPI document: as it stands in docs/, complete, and true to what the API does."""

import asyncio
import json
import re
import secrets
import threading
from pathlib import Path

import hypothesis
import pytest
import schemathesis

from squib.api import ApiConfig
from squib.api.app import all_routes
from squib.api.document import document
from squib.api.openapi import generate
from squib.contracts.ids import is_id
from tests.api.conftest import AGENTS, DRIVERS, application, served

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


def operations():
    for path, methods in json.loads(DOCUMENT.read_text())["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_the_document_is_as_generated():
    assert DOCUMENT.read_text() == generate(), "run: python -m squib.api.openapi"


def test_every_operation_is_described():
    ids = [operation["operationId"] for _, operation in operations()]
    assert len(ids) == len(set(ids)) > 20
    for name, operation in operations():
        assert operation["summary"] and operation["description"] and operation["tags"], name
        assert "default" in operation["responses"], name


def test_blank_means_the_same_in_the_document():
    pattern = json.loads(DOCUMENT.read_text())["components"]["schemas"]["TaskSpec"]["properties"]["prompt"]["pattern"]
    for code in range(1, 0x10000):
        assert bool(re.search(pattern, chr(code))) == bool(chr(code).strip()), hex(code)


async def test_the_live_document_knows_the_names(api):
    document = (await api.anyone.get("/api/v1/openapi.json")).json()
    agent = document["components"]["schemas"]["TaskSpec"]["properties"]["agent"]
    assert agent["anyOf"][0]["enum"] == ["mock", "claude"]


class Running:
    """The API behind a real server in a thread, and what there is in it to ask for."""

    def __init__(self, tmp_path):
        self.tmp_path = tmp_path
        self.ready = threading.Event()
        self.tasks: list[str] = []

    def run(self):
        asyncio.run(self._run())

    async def _run(self):
        async with application(self.tmp_path) as api, served(api.app) as self.port:
            self.loop, self.stop, self.token = asyncio.get_running_loop(), asyncio.Event(), api.token
            queued, running, ended = [await api.task(labels={"a": "b"}) for _ in range(3)]
            await api.running(running)
            await api.store.artifacts.put(ended, "patch", "text/x-diff", self._patch())
            await api.ended(ended)
            self.tasks = [queued, running, ended]
            self.ready.set()
            await self.stop.wait()

    def aim(self, case):
        """Of well-formed ids, which exist nowhere, make such that do; of a well-formed key, one not used before."""
        task = case.path_parameters.get("task_id")
        if isinstance(task, str) and is_id(task, "task"):
            case.path_parameters["task_id"] = self.tasks[ord(task[-1]) % len(self.tasks)]

        key = (case.headers or {}).get("Idempotency-Key")
        if isinstance(key, str) and re.fullmatch("[!-~]{1,255}", key):
            case.headers["Idempotency-Key"] = secrets.token_hex(16)

    async def _patch(self):
        yield b"--- a\n+++ b\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = Running(tmp_path_factory.mktemp("openapi"))
    thread = threading.Thread(target=made.run)
    thread.start()
    assert made.ready.wait(30)
    yield made
    made.loop.call_soon_threadsafe(made.stop.set)
    thread.join(30)


schemathesis.openapi.media_type(
    "application/x-git-bundle", hypothesis.strategies.binary().map(lambda rest: b"# v2 git bundle\n" + rest)
)
schema = schemathesis.openapi.from_dict(document(all_routes(), ApiConfig(key=b"", agents=AGENTS, drivers=DRIVERS)))


@schema.parametrize()
@hypothesis.settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_the_api_does_what_the_document_says(case, running):
    running.aim(case)
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{running.port}", headers={"Authorization": f"Bearer {running.token}"}
    )
