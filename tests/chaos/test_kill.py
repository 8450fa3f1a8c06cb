"""Thirty tasks while SIGKILL hits squib at random: each ends well, each stream is 1..n, nothing is left."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from bench import postgres
from bench.stack import Role, environment, free_port, ready
from squib.client import AsyncClient
from squib.contracts.task import Repository, TaskSpec, TaskState
from squib.paths import CONNECTION_FILE
from tests import leaks
from tests.chaos.monkey import Machines, Story, listens, read, submit, torment

TASKS = 30
LINES = 40
#: Some seconds of work, of which every line can be accounted for.
PROMPT = f"mock:lines={LINES} mock:every_ms=60 mock:sleep=1"
KILLING = 60.0  # seconds after which squib is left in peace
SPREAD = 25.0  # seconds over which the tasks are submitted
SETTINGS: dict[str, object] = {
    "SANDBOX__DRIVER": "bubblewrap",
    "SANDBOX__POOL_SIZE": 3,
    "SANDBOX__LEASE_SECONDS": 60,
    "SCHEDULER__LEASE_SECONDS": 2,
    "SCHEDULER__SAVE_SECONDS": 1,
    "LOG_LEVEL": "info",
}

pytestmark = [pytest.mark.needs("bwrap", "libseccomp", "git"), pytest.mark.timeout(300)]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Repeat a run's choices with SQUIB_CHAOS_SEED; where the kills fall is the machine's own affair."""
    seed = int(os.environ.get("SQUIB_CHAOS_SEED") or random.SystemRandom().randrange(2**32))
    request.node.add_report_section("setup", "seed", f"SQUIB_CHAOS_SEED={seed}")
    return random.Random(seed)


async def test_all_roles_in_one_process_on_sqlite(shared_tmp: Path, rng: random.Random) -> None:
    port, state = free_port(), shared_tmp / "state"
    role = Role(["up"], _environment(state, PORT=port), shared_tmp / "up.log")
    await _survive(shared_tmp, [role], f"http://127.0.0.1:{port}", rng)


@pytest.mark.needs("postgres")
async def test_api_and_scheduler_apart_on_postgresql(shared_tmp: Path, rng: random.Random) -> None:
    with postgres.cluster() as database:
        port, state = free_port(), shared_tmp / "state"
        env = _environment(state, PORT=port, DATABASE_URL=database, SECRET_KEY="0123456789abcdef" * 4)
        roles = [Role([name], env, shared_tmp / f"{name}.log") for name in ("api", "scheduler")]
        await _survive(shared_tmp, roles, f"http://127.0.0.1:{port}", rng)


def _environment(state: Path, **more: object) -> dict[str, str]:
    """Temporary files go beside the state, so that those of a killed process are swept up with it."""
    temporary = state.parent / "tmp"
    temporary.mkdir(mode=0o711)
    return environment(state, SETTINGS | more) | {"TMPDIR": str(temporary)}


async def _survive(directory: Path, roles: Sequence[Role], url: str, rng: random.Random) -> None:
    state, machines = directory / "state", Machines(directory / "state")
    async with _started(roles):
        await ready(url, roles[0])
        token = json.loads((state / CONNECTION_FILE).read_text())["token"]
        async with AsyncClient(url, token) as client:
            upload = await _upload(client, directory / "repository")
            stories, kills = await _tormented(client, upload, roles, machines, rng)
            assert all(count >= 3 for count in kills), f"too few kills to mean anything: {kills}"
            await ready(url, roles[0])
            for story in stories:
                try:
                    await _check(client, story)
                except AssertionError as error:
                    error.add_note(story.told())
                    for role in roles:
                        error.add_note(f"--- squib {role.argv[0]}, of this task\n{role.tail(of=story.task_id)}")
                    raise
            assert await _claimed(state) == [], "sandboxes of ended tasks are left"
        machines.look()
        for role in reversed(roles):
            await listens(role)
            await role.stop()
    assert machines.here() == set()
    assert await leaks.gone(str(state), *machines.seen) == []


@contextlib.asynccontextmanager
async def _started(roles: Sequence[Role]) -> AsyncIterator[None]:
    """The roles, killed at the end where they still run; sandboxes of theirs end by their own lease then."""
    for role in roles:
        await role.start()
    try:
        yield
    except BaseException as error:
        for role in roles:
            error.add_note(f"--- squib {role.argv[0]}, the end\n{role.tail(20)}")
        raise
    finally:
        for role in roles:
            await role.kill()


async def _tormented(
    client: AsyncClient, upload: str, roles: Sequence[Role], machines: Machines, rng: random.Random
) -> tuple[list[Story], list[int]]:
    """Submit and read all tasks while the roles are killed; the stories, and how often each role was killed."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(KILLING, done.set)

    async def one(number: int, delay: float, own: random.Random) -> Story:
        await asyncio.sleep(delay)
        repository = Repository(upload=upload) if number % 2 else None
        spec = TaskSpec(prompt=PROMPT, agent="mock", repository=repository)
        return await read(client, await submit(client, spec, f"task-{number}"), own)

    async with asyncio.TaskGroup() as group:
        killers = [
            group.create_task(torment(role, random.Random(rng.random()), done, look=machines.look)) for role in roles
        ]
        readers = [
            group.create_task(one(number, rng.uniform(0, SPREAD), random.Random(rng.random())))
            for number in range(TASKS)
        ]
        await asyncio.wait(readers)
        done.set()
    return [reader.result() for reader in readers], [killer.result() for killer in killers]


async def _check(client: AsyncClient, story: Story) -> None:
    """The story is whole, ended well, is what the store holds, and tells of each of the agent's lines once."""
    task = await client.tasks.get(story.task_id)
    assert task.state is TaskState.SUCCEEDED, (task.error, story.types)
    assert story.types[-1] == "task.succeeded"
    assert [event.seq for event in story.events] == list(range(1, task.last_seq + 1))
    page = await client.tasks.event_page(task.id, limit=1000)
    assert list(page.events) == story.events
    assert "runtime.gap" not in story.types
    if task.attempt == 1:
        assert story.types.count("agent.started") == story.types.count("agent.completed") == 1
        lines = [event.data["n"] for event in story.events if event.data.get("id") == "lines"]
        assert lines == list(range(1, LINES + 1))
    kept = {artifact.name for artifact in await client.tasks.artifacts(task.id)}
    assert kept == {"bundle", "patch", "workspace", "transcript"}


async def _claimed(state: Path) -> list[str]:
    """Machines that belong to a sandbox, once there are none or ten seconds have gone by."""
    for _ in range(200):
        if not (left := list(_records(state))):
            break
        await asyncio.sleep(0.05)
    return left


def _records(state: Path) -> Iterator[str]:
    for path in state.glob("machines/*/machine.json"):
        with contextlib.suppress(FileNotFoundError):
            if json.loads(path.read_text())["phase"] in ("claimed", "deleting"):
                yield path.parent.name


async def _upload(client: AsyncClient, repository: Path) -> str:
    """A small repository, sent in as a bundle; the upload's id."""

    def git(*arguments: str) -> str:
        argv = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    repository.mkdir()
    git("init", "-q", "-b", "main")
    (repository / "README").write_text("a repository\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    bundle = repository / "bundle"
    git("bundle", "create", "-q", str(bundle), "main")

    async def chunks() -> AsyncIterator[bytes]:
        yield bundle.read_bytes()

    return (await client.tasks.upload(chunks(), commit=git("rev-parse", "main"), branch="main")).id
