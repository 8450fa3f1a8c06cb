"""The zipapp as a program: the same bytes each time, alone in the world, orderly to the end."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from squib.contracts import codec
from squib.contracts.guest import GuestConfig, TerminalRequest
from squib.guest import bundle
from squib.link import GuestLink


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pyz") / "guest.pyz"
    bundle.build(path)
    return path


def _python(*args: str | Path, **more: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-S", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env={}, cwd="/", **more)  # type: ignore


def test_the_same_bytes_each_time(pyz: Path, tmp_path: Path) -> None:
    digest = bundle.build(tmp_path / "again.pyz")
    assert digest == hashlib.sha256(pyz.read_bytes()).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["again.pyz"]


def test_what_it_holds(pyz: Path) -> None:
    names = zipfile.ZipFile(pyz).namelist()
    tops = {"/".join(n.split("/")[:2]) if n.startswith("squib/") else n.split("/")[0] for n in names}
    code = {"__main__.py", "__main__.pyc", "squib/__init__.py", "squib/__init__.pyc", "h11", "wsproto"}
    assert tops == code | {"squib/contracts", "squib/agents", "squib/guest"}
    assert not [n for n in names if "bundle" in n or "test" in n]


def test_what_a_start_imports(pyz: Path) -> None:
    """No OpenSSL and nothing of a later request's: a start's time and memory hang on that."""
    script = (
        f"import sys; sys.path.insert(0, {str(pyz)!r}); import squib.guest.__main__ as m; m._without_openssl();"
        "import squib.guest.supervisor; print(*(name for name, module in sys.modules.items() if module))"
    )
    done = _python("-c", script)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "squib.guest.supervisor" in loaded
    later = {"wsproto", "tarfile", "random", "secrets", "email", "squib.guest.runs", "squib.agents"}
    assert not loaded & (later | {"ssl", "_ssl", "_hashlib"})


@pytest.mark.parametrize("args", [[], ["serve"], ["serve", "--config"], ["other"], ["serve", "--config", "a", "b"]])
def test_wrong_usage(pyz: Path, args: list[str]) -> None:
    done = _python(pyz, *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage:" in done.stderr


@pytest.mark.parametrize("content", [None, "rubbish", "{}", '{"sandbox_id": 1}'])
def test_a_bad_configuration(pyz: Path, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "c.json").write_text(content)
    done = _python(pyz, "serve", "--config", tmp_path / "c.json")
    assert done.returncode == 1
    assert "cannot start" in done.stderr


def test_the_mock_agent(pyz: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", pyz, "mock-agent"],
        input="hello",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["type"] == "start"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_orderly_end(pyz: Path, config: GuestConfig, tmp_path: Path, number: int) -> None:
    digest = hashlib.sha256(b"token").hexdigest()
    place = config.listen.removeprefix("unix:")
    document = {**codec.encode(config), "token_sha256": digest}
    (tmp_path / "c.json").write_text(json.dumps(document))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", pyz, "serve", "--config", tmp_path / "c.json"),
        stderr=asyncio.subprocess.PIPE,
        env={},
    )
    assert process.stderr is not None
    while b"ready" not in await process.stderr.readline():
        pass
    async with GuestLink(config.listen, "token") as link:
        started = asyncio.ensure_future(
            link.terminal(TerminalRequest("trap '' TERM; setsid sleep 400 & echo $! > pid; wait"))
        )
        while not (tmp_path / "workspace" / "pid").exists():
            await link.health()
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        await asyncio.wait({started})
        assert started.exception() is not None
    pid = int((tmp_path / "workspace" / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(place).exists()
