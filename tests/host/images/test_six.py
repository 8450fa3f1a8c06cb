"""squib's own six images, each with a real small project worked on in a sandbox made of it. `make test-images`.

SQUIB_TEST_IMAGES names a state directory; an image that is not there yet is built into it.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts.errors import NotFound
from squib.contracts.guest import TerminalRequest
from squib.gateway import Gateway
from squib.host import Host, HostConfig
from squib.host.images import Images, build, load
from squib.host.images.store import Kept
from squib.link import GuestLink, guest_token
from tests.host.conftest import KEY, sandbox
from tests.host.images.conftest import Watcher
from tests.needs import OF_DRIVER

STATE = os.environ.get("SQUIB_TEST_IMAGES")
pytestmark = [
    pytest.mark.skipif(not STATE, reason="SQUIB_TEST_IMAGES names no state directory: 'make test-images'"),
    pytest.mark.needs("root", "mmdebstrap", "mksquashfs", "bwrap"),
    pytest.mark.timeout(1800),
]

DRIVERS = ("bubblewrap", "container")
Shell = Callable[[str], Awaitable[str]]


async def _image(name: str) -> Kept:
    images = Images(Path(STATE or ""))
    try:
        return images.get(name)
    except NotFound:
        return await build(images, load(name), Watcher())


@pytest.fixture
async def sh(request: pytest.FixtureRequest, shared_tmp: Path) -> AsyncIterator[Shell]:
    """Runs a command in a sandbox whose task names the image; it must succeed; gives its output."""
    name, driver = request.param
    image = await _image(name)
    (shared_tmp / "images").symlink_to(image.path.parent)
    config = HostConfig(shared_tmp, KEY, driver=driver, pool_size=0)
    async with Gateway({}) as gateway, Host(config, gateway) as host:
        machine = await host.claim(replace(sandbox(memory=4096), image=name))
        assert (machine.driver, machine.spec.image_name) == (driver, name)
        async with GuestLink(machine.endpoint, guest_token(KEY, machine.id), uid=machine.uid, timeout=1200) as link:

            async def run(command: str) -> str:
                asked = TerminalRequest(f"set -e; {command}", timeout_seconds=900)
                done = await link.terminal(asked)
                assert done.exit_code == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
                return done.stdout + done.stderr

            yield run


def of(name: str) -> pytest.MarkDecorator:
    """By each driver that works with an image's files as they lie."""
    needs = [pytest.param((name, driver), marks=pytest.mark.needs(*OF_DRIVER[driver])) for driver in DRIVERS]
    return pytest.mark.parametrize("sh", needs, indirect=True, ids=DRIVERS)


@of("agent")
async def test_agent_has_the_coding_agents(sh: Shell) -> None:
    for program, version in (
        ("claude", "2.1.328"),
        ("codex", "0.169.0"),
        ("gemini", "0.61.0"),
        ("opencode", "1.18.33"),
    ):
        assert version in await sh(f"{program} --version")
    assert "hello" in await sh("git init -q . && echo hello > a && git add a && git commit -qm hello && git log")


@of("node")
async def test_node_runs_a_packages_tests(sh: Shell) -> None:
    await sh("""printf '{"name":"sum","type":"module","scripts":{"test":"node --test"}}' > package.json
echo 'export const sum = (a, b) => a + b;' > sum.js
cat > sum.test.js <<'END'
import test from "node:test";
import assert from "node:assert/strict";
import { sum } from "./sum.js";
test("adds", () => assert.equal(sum(1, 2), 3));
END""")
    assert "pass 1" in await sh("npm test")
    failed = await sh("sed -i 's/a + b/a - b/' sum.js; npm test && exit 1 || echo it fails")
    assert "fail 1" in failed and "it fails" in failed


@of("nextjs")
async def test_nextjs_builds_and_serves_without_a_network(sh: Shell) -> None:
    await sh("cp -R /opt/nextjs/. . && sed -i 's/Ready/Changed here/' app/page.tsx")
    assert "Compiled successfully" in await sh("npm run build")
    served = await sh("""npm start > log 2>&1 & until curl -s localhost:3000 > page; do kill -0 $!; done
grep -o 'Changed here' page | head -1; kill $!""")
    assert "Changed here" in served


@of("python")
async def test_python_runs_a_projects_tests(sh: Shell) -> None:
    await sh("""mkdir tests && echo 'def total(xs): return sum(xs)' > shop.py
printf 'from shop import total\\ndef test_total(): assert total([1, 2]) == 3\\n' > tests/test_shop.py""")
    assert "1 passed" in await sh("python -m pytest -q -p no:cacheprovider --rootdir . tests")
    assert "1 passed" in await sh(
        "uv --version && python3 -m venv --system-site-packages .venv && .venv/bin/python -m pytest -q tests"
    )


@of("go")
async def test_go_runs_a_modules_tests(sh: Shell) -> None:
    await sh("""go mod init example/sum
printf 'package sum\\n\\nfunc Sum(a, b int) int { return a + b }\\n' > sum.go
cat > sum_test.go <<'END'
package sum

import "testing"

func TestSum(t *testing.T) {
	if Sum(1, 2) != 3 {
		t.Fatal("wrong")
	}
}
END""")
    assert "ok" in await sh("gofmt -l . && go vet ./... && go test ./...")


@of("rust")
async def test_rust_runs_a_crates_tests(sh: Shell) -> None:
    await sh("cargo init --lib --name sum .")
    assert "test result: ok. 1 passed" in await sh("cargo test")
    assert "Finished" in await sh("cargo build --release")
