"""Fixtures: a stub guest and a link to it."""

import pytest

from squib.link import GuestLink
from tests.link.stub import Reply, Stub, serving


@pytest.fixture
async def stub(shared_tmp):
    guest = Stub(shared_tmp / "guest.sock", lambda seen: Reply(b"{}"))
    async with serving(guest.path, guest.serve):
        yield guest


@pytest.fixture
async def link(stub):
    async with GuestLink(stub.endpoint, "secret", timeout=5) as made:
        yield made
