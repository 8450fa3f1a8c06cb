"""The real Claude Code on a real published project: it edits a file and runs that project's own tests."""

import asyncio
import tarfile
from pathlib import Path

import pytest

from squib.testing.model import ModelServer
from squib.testing.script import Step
from tests.cli.conftest import Repo
from tests.e2e.conftest import instance

KEY = "sk-the-key-that-stays-outside"
FILE = "src/mistune/util.py"
BEFORE, AFTER = (
    "def expand_leading_tab(text: str, width=4):",
    "def expand_leading_tab(text: str, width: int = 4) -> str:",
)
TESTS = "PYTHONPATH=src python3 -m unittest discover -s tests -t ."
SCRIPT = (
    (
        Step(tool="Read", input={"file_path": f"/workspace/{FILE}"}, say="I look at it."),
        Step(tool="Edit", input={"file_path": f"/workspace/{FILE}", "old_string": BEFORE, "new_string": AFTER}),
        Step(tool="Bash", input={"command": f"{TESTS} 2>&1 | tail -n 4"}, say="I run the project's own tests."),
        Step(tool="Bash", input={"command": "git commit -qam 'Annotate expand_leading_tab' && git log -1 --oneline"}),
        Step(text="expand_leading_tab is annotated, and all tests pass."),
    ),
)


@pytest.fixture
def mistune(tmp_path: Path, tools_dir: Path) -> Repo:
    """The source distribution, made into a git repository of one commit."""
    archive = next((tools_dir / "projects").glob("mistune-*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    repo = Repo(next(tmp_path.glob("mistune-*/")))
    repo.git("init", "-q", "-b", "main")
    repo.git("config", "user.name", "A User")
    repo.git("config", "user.email", "user@localhost")
    repo.git("add", "-A")
    repo.git("commit", "-qm", "The release")
    return repo


@pytest.mark.needs("bwrap", "git", "claude", "projects")
async def test_claude_works_on_a_published_project_and_its_tests_run(mistune: Repo, tools_dir: Path) -> None:
    async with ModelServer(SCRIPT, key=KEY) as model:
        settings = {
            "SQUIB_PROVIDERS__ANTHROPIC__BASE_URL": model.url,
            "SQUIB_PROVIDERS__ANTHROPIC__API_KEY": KEY,
            "SQUIB_SANDBOX__TOOLS": str(tools_dir),
        }
        with instance("--sandbox", "bubblewrap", **settings) as squib:
            await asyncio.to_thread(squib.start)
            run = ("run", "Annotate expand_leading_tab", "--agent", "claude", "--repo", ".", "--test", TESTS)
            done = await asyncio.to_thread(squib, *run, cwd=mistune.path)
            assert "Ran 941 tests" in done.out
            task = (await asyncio.to_thread(squib, "list", "--json")).json
            assert task["state"] == "succeeded"
            events = (await asyncio.to_thread(squib, "events", task["id"], "--json")).lines
            assert [e["data"]["passed"] for e in events if e["type"] == "tests.completed"] == [True]
            said = "".join(e["data"]["text"] for e in events if e["type"] == "agent.output")
            assert "Ran 941 tests" in said and "OK" in said
            await asyncio.to_thread(squib, "apply", task["id"], cwd=mistune.path)
            branch = f"squib/{task['id']}"
            assert mistune.git("diff", "--name-only", "main", branch).split() == [FILE]
            assert AFTER in mistune.git("show", f"{branch}:{FILE}")
            assert mistune.git("log", "-1", "--format=%s", branch).strip() == "Annotate expand_leading_tab"
            assert BEFORE in (mistune.path / FILE).read_text(), "the user's own work tree stays as it is"
