import dataclasses

import pytest

from squib.contracts.errors import NotFound
from squib.contracts.machine import Capability, Isolation
from squib.gateway import Gateway
from squib.host import Host, HostConfig, probes

WORKS = Capability("qemu", True, Isolation.VIRTUAL_MACHINE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"emulated": True}, "no hardware virtualisation"),
        ({"needs_image": True}, "no image is named"),
    ],
)
def test_auto_passes_by_what_is_slow_or_could_make_nothing(change: dict[str, bool], reason: str | None) -> None:
    found = probes.passed_by(dataclasses.replace(WORKS, **change), host_root=True)  # type: ignore[arg-type]
    assert found is None if reason is None else reason in (found or "")
    if reason is not None and "image" in reason:
        assert probes.passed_by(dataclasses.replace(WORKS, **change), host_root=False) is None  # type: ignore[arg-type]


async def test_a_default_image_that_is_not_there_is_named_at_the_start(config: HostConfig, gateway: Gateway) -> None:
    with pytest.raises(NotFound, match="pascal"):
        await Host(dataclasses.replace(config, image="pascal"), gateway).__aenter__()
    async with Host(config, gateway):
        pass
