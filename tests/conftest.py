"""What all tests share: the marker `needs`, a directory that a sandbox can reach, and a look at what was left."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import TOOLS, lack

pytest_plugins = ["tests.postgres"]  # the fixtures `postgres` and `database_url`


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose programs are absent; where SQUIB_TEST_STRICT=1, fail it if set-up could have got them."""
    strict = os.environ.get("SQUIB_TEST_STRICT") == "1"
    for mark in item.iter_markers("needs"):
        for tool in mark.args:
            if (missing := lack(tool)) is not None:
                if strict and missing.curable:
                    pytest.fail(f"needs {tool}: {missing.reason}", pytrace=False)
                pytest.skip(f"needs {tool}: {missing.reason}")


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Commands that run in the tests' own process close their files to others; the next test's are not to be."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def shared_tmp() -> Iterator[Path]:
    """A directory that other users can traverse, with a short name (a unix socket's path ends at 108 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="sq-", dir="/tmp"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def tools_dir() -> Path:
    """Where the agents' command lines are: for HostConfig.tools, with `needs("claude")`."""
    return TOOLS
