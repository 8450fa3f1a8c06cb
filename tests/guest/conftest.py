"""What the guest's unit tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from squib.contracts.guest import GuestConfig
from squib.guest.children import Children
from squib.guest.confine import Root


@pytest.fixture
async def children() -> Iterator[Children]:
    with Children() as found:
        yield found


@pytest.fixture(params=["kernel", "walk"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Root]:
    """A workspace, resolved by the kernel and by the guest itself."""
    (tmp_path / "ws").mkdir()
    found = Root(str(tmp_path / "ws"))
    if request.param == "walk":
        found.kernel = False
    elif not found.kernel:
        pytest.skip("this kernel lacks openat2")
    yield found
    found.close()


@pytest.fixture
def config(tmp_path: Path) -> GuestConfig:
    for name in ("workspace", "state", "home"):
        (tmp_path / name).mkdir()
    return GuestConfig(
        "sbx-test",
        "0" * 64,
        f"unix:{tmp_path}/s",
        workspace=str(tmp_path / "workspace"),
        state_dir=str(tmp_path / "state"),
        home=str(tmp_path / "home"),
        path="/usr/local/bin:/usr/bin:/bin",
    )
