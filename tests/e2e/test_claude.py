"""The real Claude Code in a real sandbox, against the scripted model server, on a small project."""

import asyncio
import os
from pathlib import Path

import pytest

from squib.testing.model import ModelServer
from squib.testing.script import Step
from tests.e2e.conftest import instance
from tests.needs import OF_DRIVER

KEY = "sk-the-key-that-stays-outside"
EDIT = {
    "file_path": "/workspace/greet.py",
    "old_string": 'return f"Hello, {name}"',
    "new_string": 'return f"Hello, {name}!"',
}
SCRIPT = (
    (
        Step(tool="Read", input={"file_path": "/workspace/greet.py"}, say="I look at it."),
        Step(tool="Edit", input=EDIT),
        Step(tool="Bash", input={"command": "python3 -c \"import greet; print(greet.greet('you'))\"; env"}),
        Step(text="Greetings end with an exclamation mark now."),
    ),
)
#: The host's own programs; an image with the host's tools beside them; an image that has the agents itself.
KINDS = [
    pytest.param("bubblewrap", None, marks=pytest.mark.needs(*OF_DRIVER["bubblewrap"])),
    pytest.param("gvisor", "python", marks=pytest.mark.needs(*OF_DRIVER["gvisor"], "image")),
    pytest.param(
        *("qemu", "agent"),
        marks=[
            pytest.mark.needs(*OF_DRIVER["qemu"]),
            pytest.mark.skipif("SQUIB_TEST_IMAGES" not in os.environ, reason="slow: 'make test-images'"),
            pytest.mark.timeout(600),
        ],
    ),
]


@pytest.mark.needs("git", "claude")
@pytest.mark.parametrize(("driver", "image"), KINDS)
async def test_claude_edits_a_project_and_the_key_stays_outside(
    repo, tools_dir: Path, driver: str, image: str | None
):
    async with ModelServer(SCRIPT, key=KEY) as model:
        provider = {
            "SQUIB_PROVIDERS__ANTHROPIC__BASE_URL": model.url,
            "SQUIB_PROVIDERS__ANTHROPIC__API_KEY": KEY,
            "SQUIB_SANDBOX__TOOLS": str(tools_dir),
        }
        with instance("--sandbox", driver, **provider) as squib:
            squib.show_images()
            await asyncio.to_thread(squib.start)
            run = ["run", "Be cheerful", "--repo", ".", "--keep", "5m", *(["--image", image] if image else [])]
            done = await asyncio.to_thread(squib, *run, cwd=repo.path)
            assert "Hello, you!" in done.out
            task = (await asyncio.to_thread(squib, "list", "--json")).json
            assert (task["state"], task["spec"]["agent"]) == ("idle", "claude")
            assert task["usage"]["output_tokens"] > 0
            assert task["result"] == "Greetings end with an exclamation mark now."
            second = (await asyncio.to_thread(squib, "send", task["id"], "And again", "--json")).json
            assert second["turn"] == 2
            await asyncio.to_thread(squib, "apply", task["id"], cwd=repo.path)
            assert 'Hello, {name}!"' in repo.git("show", f"squib/{task['id']}:greet.py")
            events = await asyncio.to_thread(squib, "events", task["id"], "--json")
            assert KEY not in events.out + squib.log()
            assert await asyncio.to_thread(squib.end) == 0
            for path in squib.state.rglob("*"):
                assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
        assert {seen.headers.get("x-api-key") for seen in model.seen if seen.method == "POST"} == {KEY}


@pytest.mark.needs("bwrap", "git", "claude")
async def test_a_key_that_the_provider_refuses_is_told_in_words(tools_dir: Path):
    async with ModelServer(key="another") as model:
        provider = {
            "SQUIB_PROVIDERS__ANTHROPIC__BASE_URL": model.url,
            "SQUIB_PROVIDERS__ANTHROPIC__API_KEY": KEY,
            "SQUIB_SANDBOX__TOOLS": str(tools_dir),
            "SQUIB_AGENTS__CLAUDE__MAX_RETRIES": "0",
        }
        with instance("--sandbox", "bubblewrap", **provider) as squib:
            await asyncio.to_thread(squib.start)
            done = await asyncio.to_thread(squib, "run", "Be cheerful", "--json", code=1)
            assert done.json["state"] == "failed"
            assert "key" in done.json["error"]["detail"].lower()
