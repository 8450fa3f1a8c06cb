"""The stand-in VMM as a process: how it is started, and how it ends."""

import contextlib
import json
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.host.firecracker import models
from squib.host.firecracker.client import Firecracker
from squib.host.firecracker.command import Vmm
from squib.host.firecracker.errors import LoadFailed, VmmEnded, VmmSilent
from squib.testing.firecracker import vmm as program
from tests.testing.programs import Programs, ended, started
from tests.testing.vmm import files


@contextlib.asynccontextmanager
async def vmm(programs: Programs, place: Path, **environment: str) -> AsyncIterator[tuple[Process, Path]]:
    """Firecracker without a jail."""
    path = place / "api.sock"
    async with started(Vmm(api_sock=str(path)).argv(programs.firecracker, "mch-1"), **environment) as process:
        yield process, path


def test_the_module_has_the_same_command_line() -> None:
    argv = (sys.executable, "-m", "squib.testing.firecracker")
    assert ended(*argv, "--version") == (0, "Firecracker v1.17.0-dev\n\n")
    assert ended(*argv, "--snapshot-version") == (0, "v11.0.0\n")


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("--none",), 153, "Found argument 'none' which wasn't expected, or isn't valid in this context."),
        (("word",), 153, "Found argument 'word'"),
        (("--id",), 153, "The argument 'id' requires a value, but none was supplied."),
        (("--id", "--version-of-mine"), 153, "The argument 'id' requires a value"),
        (("--id", "a", "--id", "b"), 153, "The argument 'id' was provided more than once."),
        (("--no-api",), 153, "Argument 'config-file' required, but not found."),
        (("--no-seccomp", "--seccomp-filter", "f"), 153, "cannot be used together"),
        (("--describe-snapshot", "/none"), 1, "No such file"),
        (("--config-file", "/none"), 1, "takes no configuration"),
    ],
)
def test_command_lines_that_end_at_once(
    words: tuple[str, ...], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(words) == status
    assert text in capsys.readouterr().err


def test_a_bad_id_is_a_panic(programs: Programs) -> None:
    code, said = ended(programs.firecracker, "--id", "a_b")
    assert code == -signal.SIGABRT
    assert "Invalid instance ID: Invalid char (_) at position 1" in said


async def test_a_socket_that_is_there_is_not_taken(programs: Programs, shared_tmp: Path) -> None:
    async with vmm(programs, shared_tmp) as (process, path), Firecracker(path) as client:
        await client.listening(process.pid)
        code, said = ended(programs.firecracker, "--api-sock", path)
        assert code == 1
        assert "FailedToBindSocket" in said
        assert (await client.info()).id == "mch-1"
        process.terminate()
        assert await process.wait() == -signal.SIGTERM
        assert path.exists()  # nobody unlinks it
    assert ended(programs.firecracker, "--api-sock", path)[0] == 1


async def test_a_vmm_that_ends_before_it_listens(programs: Programs, shared_tmp: Path) -> None:
    (shared_tmp / "f").write_text('{"start": {"do": "die", "code": 148}}')
    async with vmm(programs, shared_tmp, SQUIB_FIRECRACKER_FAULTS=str(shared_tmp / "f")) as (process, path):
        with pytest.raises(VmmEnded, match="before it listened"):
            await Firecracker(path).listening(process.pid)
        assert await process.wait() == 148


async def test_a_vmm_that_never_listens(programs: Programs, shared_tmp: Path) -> None:
    (shared_tmp / "f").write_text('{"start": {"do": "hang"}}')
    async with vmm(programs, shared_tmp, SQUIB_FIRECRACKER_FAULTS=str(shared_tmp / "f")) as (process, path):
        with pytest.raises(VmmSilent, match="does not listen"):
            await Firecracker(path).listening(process.pid, seconds=0.1)


@pytest.mark.parametrize("after", [False, True])
async def test_a_vmm_that_dies_in_the_middle_of_a_request(programs: Programs, shared_tmp: Path, after: bool) -> None:
    (shared_tmp / "f").write_text(json.dumps({"PUT /mmds": {"do": "die", "after": after}}))
    faults = str(shared_tmp / "f")
    async with (
        vmm(programs, shared_tmp, SQUIB_FIRECRACKER_FAULTS=faults) as (process, path),
        Firecracker(path) as client,
    ):
        await client.listening(process.pid)
        with pytest.raises(VmmEnded):
            await client.put_mmds({})
        assert await process.wait() == -signal.SIGKILL
        with pytest.raises(VmmEnded, match="does not listen"):
            await client.info()


async def test_how_machines_end(programs: Programs, shared_tmp: Path) -> None:
    parts = files(shared_tmp)
    async with vmm(programs, shared_tmp) as (process, path), Firecracker(path) as client:
        await client.listening(process.pid)
        await client.put_boot(models.BootSource(parts.kernel))
        await client.start()
        await client.pause()
        await client.create_snapshot(models.SnapshotCreateParams(parts.state, parts.memory))
        await client.resume()
        await client.act(models.Action.SEND_CTRL_ALT_DEL)
        assert await process.wait() == 0
    assert ended(programs.firecracker, "--describe-snapshot", parts.state) == (0, "v11.0.0\n")
    path.unlink()
    Path(parts.state).write_bytes(b"rubbish, of more than eight bytes")
    async with vmm(programs, shared_tmp) as (process, path), Firecracker(path) as client:
        await client.listening(process.pid)
        with pytest.raises(LoadFailed):
            await client.load(models.SnapshotLoadParams(parts.state, models.MemoryBackend(parts.memory)))
        assert await process.wait() == 1
