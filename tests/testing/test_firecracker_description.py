"""All that goes between our client and the stand-in, held against Firecracker's own description of its API.

The description is not ours to ship: it is looked for beside the checkout, or where SQUIB_FIRECRACKER_API says.
"""

import functools
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from squib.host.firecracker import calls, models
from squib.host.firecracker.calls import Call
from squib.host.firecracker.client import Firecracker
from squib.host.firecracker.errors import VmmRefused
from tests.needs import lack
from tests.testing.vmm import Files, Said, files, running

_BESIDE = Path(__file__).parents[3] / "shared" / "firecracker" / "firecracker.yaml"
DESCRIPTION = Path(os.environ.get("SQUIB_FIRECRACKER_API") or _BESIDE)
pytestmark = pytest.mark.skipif(
    not DESCRIPTION.exists(), reason=f"no description of Firecracker's API at {DESCRIPTION} (SQUIB_FIRECRACKER_API)"
)
EVERY = [value for value in vars(calls).values() if isinstance(value, Call)]


class Loader(yaml.SafeLoader):
    """YAML 1.2 as far as it matters: a log level called Off is a string."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))


@functools.cache
def described() -> dict[str, Any]:
    """The description, its objects closed: it lists what there is, and Firecracker refuses all else."""
    document: dict[str, Any] = yaml.load(DESCRIPTION.read_text(), Loader)
    for definition in document["definitions"].values():
        if definition.get("type") == "object" and definition.get("properties"):
            definition.setdefault("additionalProperties", False)
    return document


def operation(method: str, path: str) -> dict[str, Any]:
    """What the description says of a request."""
    for template, operations in described()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", r"\\w+", template), path):
            return dict(operations[method.lower()])
    raise LookupError(path)


def check(schema: dict[str, Any], value: Any) -> None:
    """Raise where the value is not of the schema."""
    jsonschema_rs.Draft4Validator({"definitions": described()["definitions"], **schema}).validate(value)


def without_nulls(value: Any) -> Any:
    """The real one too writes null for what is absent, which the description does not know."""
    if isinstance(value, dict):
        return {name: without_nulls(held) for name, held in value.items() if held is not None}
    return [without_nulls(held) for held in value] if isinstance(value, list) else value


def check_said(said: Said) -> None:
    found = operation(said.method, said.path)
    bodies = [parameter for parameter in found.get("parameters", []) if parameter["in"] == "body"]
    if said.body:
        check(bodies[0]["schema"], json.loads(said.body))
    else:
        assert not any(parameter.get("required") for parameter in bodies)
    answer = found["responses"].get(said.answer.status) or found["responses"]["default"]
    if "schema" in answer:
        check(answer["schema"], without_nulls(said.answer.document))
    else:
        assert said.answer.document is None


async def boot(client: Firecracker, parts: Files, place: Path, tap: str | None) -> None:
    bucket = models.TokenBucket(1000, 100, one_time_burst=10)
    limiter = models.RateLimiter(bandwidth=bucket, ops=bucket)
    await client.put_logger(models.Logger(str(place / "log"), models.LogLevel.OFF, True, False, "vmm"))
    await client.put_metrics(models.Metrics(str(place / "metrics")))
    await client.put_serial(models.SerialDevice(str(place / "serial"), bucket))
    await client.put_cpu({"cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": []}]})
    await client.put_machine(models.MachineConfiguration(2, 2, False, True, models.HugePages.NONE))
    await client.put_boot(models.BootSource(parts.kernel, "reboot=k", parts.root))
    await client.put_drive(models.Drive("root", True, parts.root, True, "Unsafe", None, "Sync", "uuid"))
    await client.put_drive(models.Drive("overlay", False, parts.overlay, False, rate_limiter=limiter))
    if tap is not None:
        await client.put_network(models.NetworkInterface("net", tap, "02:00:00:00:00:01", 1500, limiter, limiter))
        await client.put_mmds_config(models.MmdsConfig(("net",), ipv4_address="169.254.0.1", imds_compat=False))
    await client.put_vsock(models.Vsock(3, str(place / "vsock")))
    await client.put_entropy(models.EntropyDevice(limiter))
    await client.put_mmds({"a": [1, None]})
    await client.patch_mmds({"b": "c"})
    await client.mmds()
    await client.start()
    await client.patch_drive(models.PartialDrive("overlay", parts.overlay, limiter))
    if tap is not None:
        await client.patch_network(models.PartialNetworkInterface("net", limiter, limiter))
    await client.act(models.Action.FLUSH_METRICS)
    await client.pause()
    await client.create_snapshot(models.SnapshotCreateParams(parts.state, parts.memory))


async def restore(client: Firecracker, parts: Files, place: Path, tap: str | None) -> None:
    overrides = None if tap is None else (models.NetworkOverride("net", tap),)
    vsock = models.VsockOverride(str(place / "vsock-of-clone"))
    backend = models.MemoryBackend(parts.memory)
    await client.load(
        models.SnapshotLoadParams(parts.state, backend, False, True, overrides, vsock, True, "Snapshot")
    )
    await client.resume()


@pytest.fixture
async def said(shared_tmp: Path) -> AsyncIterator[list[Said]]:
    """What is said while a machine boots, is frozen, and goes on in another VMM; refusals too."""
    parts = files(shared_tmp)
    tap = f"sq{os.getpid()}" if lack("root") is None and Path("/dev/net/tun").exists() else None
    said: list[Said] = []
    async with running(shared_tmp / "vmm") as vmm, Firecracker(vmm.socket) as client:
        await boot(client, parts, shared_tmp, tap)
        with pytest.raises(VmmRefused):
            await client.patch_drive(models.PartialDrive("none", parts.overlay))
        for ask in (client.info, client.version, client.config, client.machine):
            await ask()
        said += vmm.said
    async with running(shared_tmp / "clone") as vmm, Firecracker(vmm.socket) as client:
        await restore(client, parts, shared_tmp, tap)
        for ask in (client.info, client.config, client.machine):
            await ask()
        said += vmm.said
    yield said


async def test_each_request_and_answer_is_as_described(said: list[Said]) -> None:
    for each in said:
        check_said(each)
    done = {(each.method, each.path) for each in said if each.answer.status < 300}
    assert done >= {
        (call.method, call.path.replace("{drive_id}", "overlay"))
        for call in EVERY
        if "network" not in call.path and call is not calls.PUT_MMDS_CONFIG
    }


def test_the_check_itself_finds_what_is_wrong() -> None:
    with pytest.raises(LookupError):
        operation("GET", "/none")
    for wrong in (
        {"vcpu_count": 1},
        {"vcpu_count": 0, "mem_size_mib": 1},
        {"vcpu_count": 1, "mem_size_mib": 1, "a": 1},
    ):
        with pytest.raises(jsonschema_rs.ValidationError):
            check({"$ref": "#/definitions/MachineConfiguration"}, wrong)
    check({"$ref": "#/definitions/Logger"}, {"level": "Off"})


def test_all_that_is_described_is_used_or_left_out_for_a_reason() -> None:
    paths = described()["paths"]
    all_ = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    used = {(call.method, call.path) for call in EVERY}
    assert used <= all_
    assert set(calls.UNUSED) == all_ - used
    assert all(calls.UNUSED.values())


@pytest.mark.parametrize("name", ["Action", "InstanceState", "VmState", "SnapshotType", "BackendType"])
def test_words_are_the_descriptions(name: str) -> None:
    where = {
        "Action": ("InstanceActionInfo", "action_type"),
        "InstanceState": ("InstanceInfo", "state"),
        "VmState": ("Vm", "state"),
        "SnapshotType": ("SnapshotCreateParams", "snapshot_type"),
        "BackendType": ("MemoryBackend", "backend_type"),
    }
    definition, field = where[name]
    found = described()["definitions"][definition]["properties"][field]["enum"]
    assert sorted(word.value for word in getattr(models, name)) == sorted(found)
