"""What a machine is made with: its specification, its guest's configuration, its identity. Pure but for chance."""

import base64
import hashlib
import hmac
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from squib.contracts import ids
from squib.contracts.guest import GuestConfig, Resume
from squib.contracts.machine import Capability, MachineSpec
from squib.contracts.task import SandboxRequest
from squib.host.bases import Base
from squib.host.config import HostConfig
from squib.host.drivers.base import Driver
from squib.host.ground import Ground
from squib.link import guest_token, token_digest

_ENTROPY_BYTES = 64


@dataclass(frozen=True, slots=True)
class Order:
    """A machine that is wanted: by which driver, of which root file system, of which measure."""

    driver: Driver
    capability: Capability
    base: Base
    request: SandboxRequest


def spec(order: Order, config: HostConfig) -> MachineSpec:
    """A new machine's specification, with an id of its own."""
    base, request = order.base, order.request
    return MachineSpec(
        id=ids.new_id("mch"),
        image=base.image,
        image_name=base.name,
        drive=base.drive,
        python=base.python,
        environment=dict(base.environment),
        cpu=request.cpu,
        memory=request.memory,
        disk=request.disk,
        agents={name: dict(options) for name, options in config.agents.items()},
        lease_seconds=config.lease_seconds,
    )


def guest_config(spec: MachineSpec, key: bytes) -> GuestConfig:
    """What the guest of such a machine is told at its start."""
    return GuestConfig(
        sandbox_id=spec.id,
        token_sha256=token_digest(guest_token(key, spec.id)),
        listen="unix:/run/squib/guest/guest.sock",
        gateway="unix:/run/squib/gateway/gateway.sock",
        environment=spec.environment,
        hostname=hostname(spec.id),
        lease_seconds=spec.lease_seconds,
        agents=spec.agents,
    )


def identity(key: bytes, machine_id: str) -> Resume:
    """What makes a machine that goes on from a frozen one itself; only entropy and time differ from call to call."""
    return Resume(
        sandbox_id=machine_id,
        token_sha256=token_digest(guest_token(key, machine_id)),
        hostname=hostname(machine_id),
        machine_id=hmac.new(key, f"machine-id {machine_id}".encode(), hashlib.sha256).hexdigest()[:32],
        entropy=base64.b64encode(os.urandom(_ENTROPY_BYTES)).decode(),
        time=time.time(),
    )


def hostname(machine_id: str) -> str:
    """The machine's name inside: of the id's random end."""
    return f"squib-{machine_id[-12:]}"


def made_with(config: HostConfig, ground: Ground, driver: str, image: str) -> str:
    """Names all that a machine has from this process: the guest's build, the image and the settings.

    `image` as in MachineSpec: "host", or a path in a directory that is named by the image's digest.
    """
    agents = {name: dict(options) for name, options in config.agents.items()}
    parts = (driver, ground.guest.name, agents, config.lease_seconds, config.guest_python)
    places = (str(config.tools), Path(image).parent.name)
    return hashlib.sha256(json.dumps([parts, places], sort_keys=True).encode()).hexdigest()[:16]
