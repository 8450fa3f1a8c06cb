import importlib
import json
import subprocess
import sys

import pytest

from squib import __version__
from squib.cli import exits
from squib.cli.app import COMMANDS, build

HEAVY = {"httpx2", "pydantic", "sqlalchemy", "fastapi", "structlog", "markdown_it", "asyncio"}


@pytest.mark.parametrize(("name", "path", "summary"), [entry[:3] for entry in COMMANDS])
def test_the_registry_says_what_the_docstring_says(name, path, summary):
    module, _, attribute = path.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    said = target.help if hasattr(target, "help") else target.__doc__
    assert said.strip().splitlines()[0] == summary


def leaves(app, path=()):
    """All commands that are no group."""
    names = [name for name in app if not name.startswith("-")]
    if not names:
        yield path, app
    for name in names:
        yield from leaves(app[name], (*path, name))


def test_every_command_prints_json_and_explains_each_option():
    seen = 0
    for path, command in leaves(build()):
        found = command.assemble_argument_collection(parse_docstring=True)
        arguments = {argument.name: argument for argument in found}
        assert "--json" in arguments, path
        for name, argument in arguments.items():
            assert argument.parameter.help, f"{path}: {name} is not explained"
        seen += 1
    assert seen >= 20


def test_the_help_loads_nothing_that_it_does_not_need():
    probe = (
        "import sys\nfrom squib.cli.app import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join(m for m in sys.modules if '.' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "squib run" not in done.stderr
    assert not HEAVY & set(done.stderr.split())


def test_help_tells_the_exit_statuses(call):
    done = call("--help")
    assert done.code == exits.OK
    for code in (exits.FAILED, exits.CONNECTION, exits.NOT_FOUND, exits.INTERRUPTED):
        assert f"\n  {code} " in done.out


def test_version(call):
    assert call("--version").out.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["lst"], "lst"),
        (["run"], "PROMPT"),
        (["run", "x", "--keep", "soon"], "--keep"),
        (["run", "x", "--nope"], "--nope"),
        (["run", "x", "--ref", "main"], "--ref"),
        (["list", "--label", "a"], "--label"),
        (["list", "--limit", "0"], "--limit"),
        (["list", "--state", "asleep"], "--state"),
        (["events", "task-1", "--after", "-1"], "--after"),
        (["shell", "task-1"], "--command"),
    ],
)
def test_wrong_usage_is_one_line_that_names_what_is_wrong(call, monkeypatch, arguments, names):
    monkeypatch.setenv("SQUIB_URL", "http://127.0.0.1:1")
    done = call(*arguments)
    assert done.code == exits.USAGE
    assert done.out == ""
    assert names.lower() in done.err.lower()
    assert len(done.err.splitlines()) <= 3


def test_an_error_is_a_problem_document_where_json_was_asked_for(call):
    done = call("list", "--json")
    assert done.code == exits.CONNECTION
    problem = json.loads(done.err)
    assert problem["code"] == "no_connection"
    assert "squib up" in problem["advice"]
