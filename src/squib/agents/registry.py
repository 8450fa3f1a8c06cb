"""Which agents there are: one line each, imported when first asked for."""

import importlib

from squib.agents.base import Agent
from squib.contracts.errors import InvalidRequest

_AGENTS = {
    "mock": "squib.agents.mock:Mock",
    "claude": "squib.agents.claude:Claude",
}


def names() -> list[str]:
    """All names, in the order in which help and errors show them."""
    return list(_AGENTS)


def get(name: str) -> Agent:
    """The adapter of that name. Raises InvalidRequest for an unknown one."""
    if name not in _AGENTS:
        known = ", ".join(_AGENTS)
        raise InvalidRequest(f"agent: {name[:64]!r} is unknown", fields={"agent": f"must be one of {known}"})
    module, _, kind = _AGENTS[name].partition(":")
    adapter: Agent = getattr(importlib.import_module(module), kind)()
    return adapter
