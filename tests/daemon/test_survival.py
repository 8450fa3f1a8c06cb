"""`squib host` killed with SIGKILL, as a process of its own: what it had runs on, and the next one has it."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from squib.contracts.errors import GuestUnreachable
from squib.contracts.guest import RunRequest, RunStatus
from squib.contracts.ids import new_id
from squib.link import GuestLink, guest_token
from squib.orchestrator.remote import RemoteOrchestrator
from tests import leaks
from tests.daemon.conftest import KEY, spec
from tests.e2e.conftest import SQUIB

CYCLES = int(os.environ.get("SQUIB_CHAOS_CYCLES", "6"))
pytestmark = pytest.mark.needs("bwrap", "libseccomp")


class Process:
    """A `squib host` on one state directory, started again and again at the same socket."""

    def __init__(self, state: Path):
        self.state, self.url = state, f"unix:{state}.sock"
        self._log = Path(f"{state}.log").open("a")  # noqa: SIM115 - closed in `end`
        self._process: subprocess.Popen[str] | None = None

    def launch(self) -> None:
        """Start it; it is ready once somebody gets an answer."""
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
            "SQUIB_STATE_DIR": str(self.state),
            "SQUIB_SECRET_KEY": KEY.decode(),
            "SQUIB_SANDBOX__POOL_SIZE": "1",
            "SQUIB_LOG_LEVEL": "warning",
        }
        argv = [SQUIB, "host", "--listen", self.url, "--sandbox", "bubblewrap", "--json"]
        self._process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=self._log, text=True)

    def ready(self) -> None:
        """Wait for its word."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, Path(f"{self.state}.log").read_text()
        assert json.loads(line) == {"url": self.url, "driver": "bubblewrap"}

    def end(self, number: int) -> int:
        """Send the signal and wait; 0 where it has ended already."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        code = process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
        return code

    def close(self) -> None:
        """For the end of a test, however it went."""
        self.end(signal.SIGKILL)
        self._log.close()


@contextmanager
def process(state: Path) -> Iterator[Process]:
    made = Process(state)
    try:
        yield made
    finally:
        made.close()


async def run_status(guest: GuestLink) -> RunStatus | None:
    """Asked until the daemon is back."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await guest.run_status()
            except GuestUnreachable:
                await asyncio.sleep(0.05)


async def test_killed_in_the_middle_of_work_it_finds_the_same_sandbox_at_work(shared_tmp: Path) -> None:
    with process(shared_tmp / "state") as host:
        host.launch()
        host.ready()
        async with RemoteOrchestrator(host.url, KEY) as remote:
            wanted = spec()
            made = await remote.create(wanted)
            async with GuestLink(made.endpoint, guest_token(KEY, made.machine_id)) as guest:
                run = new_id("run")
                body = RunRequest(run, "mock", "mock:run=until [ -e go ]; do sleep 0.05; done")
                await guest.run(body)
                epoch = (await guest.health()).epoch
                assert host.end(signal.SIGKILL) == -signal.SIGKILL
                with pytest.raises(GuestUnreachable):
                    await guest.health()
                host.launch()
                assert await remote.get(wanted.id) == await remote.create(wanted)
                assert (await guest.health()).epoch == epoch
                status = await run_status(guest)
                assert status is not None
                assert (status.run_id, status.state) == (run, "running")
                await guest.write("go", b"")
                async with asyncio.timeout(30):
                    while (status := await run_status(guest)) is not None and status.state == "running":  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                assert status is not None
                assert status.state == "succeeded"
            await remote.delete(wanted.id)
        host.ready()
        assert host.end(signal.SIGTERM) == 0
        assert await leaks.gone(str(host.state)) == []
        assert list((host.state / "machines").iterdir()) == []


async def test_an_orderly_end_leaves_sandboxes_for_the_next_start(shared_tmp: Path) -> None:
    with process(shared_tmp / "state") as host:
        host.launch()
        host.ready()
        async with RemoteOrchestrator(host.url, KEY) as remote:
            made = await remote.create(spec())
            assert host.end(signal.SIGTERM) == 0
            host.launch()
            assert await remote.list() == [made]
            await remote.delete(made.id)
        host.ready()
        assert host.end(signal.SIGTERM) == 0
        assert await leaks.gone(str(host.state)) == []


async def test_killed_again_and_again_it_leaves_nothing(shared_tmp: Path) -> None:
    """Each time at another point of making and ending sandboxes; every call, made again, comes to its end."""
    with process(shared_tmp / "state") as host:
        host.launch()
        async with RemoteOrchestrator(host.url, KEY) as remote:
            await remote.status()
            for number in range(CYCLES):
                wanted = [spec(), spec()]
                making = [asyncio.create_task(remote.create(each)) for each in wanted]
                await asyncio.sleep(0.4 * number / CYCLES)  # the point of the kill, not a wait
                host.end(signal.SIGKILL)
                host.launch()
                made = await asyncio.gather(*making)
                await remote.status()  # it is back
                for sandbox in made:
                    async with GuestLink(sandbox.endpoint, guest_token(KEY, sandbox.machine_id)) as guest:
                        assert (await guest.health()).contract == 1
                assert {each.id for each in await remote.list()} == {each.id for each in wanted}
                if number % 2:
                    await asyncio.gather(*(remote.delete(each.id) for each in wanted))
                    continue
                ending = [asyncio.create_task(remote.delete(each.id)) for each in wanted]
                await asyncio.sleep(0)
                host.end(signal.SIGKILL)
                host.launch()
                await asyncio.gather(*ending)
                assert await remote.list() == []
        assert host.end(signal.SIGTERM) in (0, -signal.SIGTERM)  # it may not have begun yet to listen to signals
        host.launch()
        host.ready()
        assert host.end(signal.SIGTERM) == 0
        assert await leaks.gone(str(host.state)) == []
        assert list((host.state / "machines").iterdir()) == []


def test_a_key_is_asked_for_and_a_place_that_is_taken_is_told(shared_tmp: Path) -> None:
    env = {"PATH": os.environ["PATH"], "SQUIB_STATE_DIR": str(shared_tmp / "state")}
    done = subprocess.run([SQUIB, "host"], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, "SQUIB_SECRET_KEY" in done.stderr) == (2, True)
    argv = [SQUIB, "host", "--listen", f"unix:{shared_tmp}/none/x.sock", "--sandbox", "process"]
    env["SQUIB_SECRET_KEY"] = KEY.decode()
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, "cannot listen" in done.stderr) == (6, True), done.stderr
