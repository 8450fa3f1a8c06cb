import os
from pathlib import Path

import pytest

from squib.host import HostConfig, probes
from squib.host.drivers import gvisor_probe
from squib.host.drivers.gvisor import GvisorDriver
from tests.host.conftest import KEY


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("unshare: unshare failed: Operation not permitted", "user namespaces"),
        ("setpriv: setresuid failed: Operation not permitted", "SETUID"),
        ("open /root/x/config.oci/config.json: permission denied", "state directory"),
        ("/usr/bin/python3 is older than 3.11", "3.11"),
    ],
)
def test_what_went_wrong_comes_with_what_to_do(said: str, advice: str) -> None:
    assert advice in gvisor_probe.advice(said)


@pytest.mark.parametrize(("version", "why"), [("0.0~20221219.0", "too old"), ("", "not installed")])
async def test_a_runsc_that_can_not_do_it_is_named(
    shared_tmp: Path, monkeypatch: pytest.MonkeyPatch, version: str, why: str
) -> None:
    program = shared_tmp / "runsc"
    if version:
        program.write_text(f"#!/bin/sh\necho runsc version {version}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shared_tmp}:{os.defpath}" if version else str(shared_tmp))
    ground = await probes.ground(HostConfig(shared_tmp, KEY), probing=True)
    found = await GvisorDriver(ground).probe()
    assert not found.works
    assert why in (found.why_not or "")
    assert "runsc" in (found.advice or "")


@pytest.mark.needs("runsc", "libseccomp")
async def test_a_probe_that_worked_is_not_made_again(shared_tmp: Path) -> None:
    ground = await probes.ground(HostConfig(shared_tmp, KEY), probing=True)
    driver = GvisorDriver(ground)
    assert driver.recall() is None
    found = await driver.probe()
    assert found.works, found
    assert GvisorDriver(ground).recall() == found
    ground.children.close()
    ground.groups.close()
