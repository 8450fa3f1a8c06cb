"""Tasks that name what their sandbox is made of and by which driver; snapshots that sandboxes start from."""

from collections.abc import Iterator

import pytest

from squib.cli import exits
from tests import leaks
from tests.e2e.conftest import Instance, instance

pytestmark = pytest.mark.needs("bwrap", "runsc", "libseccomp", "image", "git")


@pytest.fixture(scope="module")
def squib() -> Iterator[Instance]:
    """A squib whose own driver is bubblewrap, with a snapshot that a stronger one can use."""
    with instance("--sandbox", "bubblewrap", SQUIB_SANDBOX__POOL_SIZE="0") as made:
        made.show_images()
        built = made("snapshot", "build", "python", "--sandbox", "gvisor", "--json")
        assert (built.json["usable"], built.json["image_name"]) == (True, "python")
        assert "freeze" in built.err
        made.start()
        yield made


def test_a_task_names_its_image_and_a_stronger_driver(squib: Instance):
    run = ["run", "Look.\nmock:run=cat /etc/os-release", "--json", "--sandbox", "gvisor", "--image", "python"]
    task = squib(*run).json
    assert (task["state"], task["driver"], task["image"]) == ("succeeded", "gvisor", "python")
    events = squib("events", task["id"], "--json").lines
    made = next(event["data"] for event in events if event["type"] == "sandbox.created")
    assert (made["driver"], made["isolation"], made["image"]) == ("gvisor", "userspace_kernel", "python")
    assert any("Debian" in event["data"].get("text", "") for event in events)
    shown = squib("show", task["id"]).out
    assert "gvisor" in shown
    assert "python" in shown


@pytest.mark.needs("qemu")
def test_a_task_gets_a_kernel_of_its_own(squib: Instance):
    task = squib("run", "Look.\nmock:run=uname -r", "--json", "--sandbox", "qemu", "--image", "python").json
    assert (task["state"], task["driver"]) == ("succeeded", "qemu")
    events = squib("events", task["id"], "--json").lines
    assert next(e for e in events if e["type"] == "sandbox.created")["data"]["isolation"] == "virtual_machine"
    kernel = squib("kernel", "show", "--json").json["version"]
    assert any(kernel in event["data"].get("text", "") for event in events)


def test_what_is_not_here_is_refused_before_anything_begins(squib: Instance):
    refused = squib("run", "hello", "--image", "cobol", code=exits.USAGE)
    assert "squib image build cobol" in refused.err
    refused = squib("run", "hello", "--sandbox", "process", code=exits.USAGE)
    assert "bubblewrap" in refused.err


def test_snapshots_are_listed_and_removed(squib: Instance):
    listed = squib("snapshot", "list", "--json").json
    assert (listed["usable"], listed["fabric"]["driver"]) == (True, "gvisor")
    assert squib("snapshot", "rm", listed["id"][-10:], "--json").json == {"removed": listed["id"]}
    assert squib("snapshot", "list").out.startswith("no snapshots")


async def test_nothing_is_left(squib: Instance):
    assert squib.end() == 0
    assert await leaks.gone(str(squib.state)) == []
