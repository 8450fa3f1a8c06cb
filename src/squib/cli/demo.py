"""The demonstration: a small repository, a first task of the mock agent on it, and what came of it."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from squib.cli import bundle, git
from squib.cli.follow import printer
from squib.cli.output import note, say, styled
from squib.cli.patch import coloured
from squib.client import AsyncClient
from squib.contracts.errors import SquibError
from squib.contracts.task import Repository, TaskSpec

_PROMPT = "Write down what this task is, and commit a plan for it."
_FILES = {
    "README.md": "# hello\n\nA repository made for a first task.\n",
    "hello.py": 'def greet(name: str) -> str:\n    return f"Hello, {name}!"\n',
}


async def demonstrate(url: str, token: str) -> None:
    """Run it through the public API. A failure is told, and squib stays up."""
    try:
        async with AsyncClient(url, token) as client:
            await _show(client)
    except SquibError as error:
        note(f"squib: the first task could not be shown: {error.detail} {error.advice}")
        return
    say()
    say(f"squib stays up: {styled(f'{url}/?token={token}', 'bold')}")
    say('In another terminal: squib run "what to do" --repo DIRECTORY. Ctrl-C here stops squib.')


async def _show(client: AsyncClient) -> None:
    with tempfile.TemporaryDirectory(prefix="squib-demo-") as scratch:
        root = Path(scratch) / "hello"
        await asyncio.to_thread(_repository, root)
        async with _bundled(root) as made:
            sent = await client.tasks.upload(_pieces(made.path), commit=made.commit, branch=made.branch)
    task = await client.tasks.create(TaskSpec(_PROMPT, agent="mock", repository=Repository(upload=sent.id)))
    say()
    say(f"A first task, {task.id}, on a small repository, with the agent 'mock':")
    with printer() as shown:
        async for event in client.tasks.events(task.id):
            shown.show(event)
    say()
    say(coloured(await client.tasks.diff(task.id)).rstrip("\n"))


def _repository(root: Path) -> None:
    root.mkdir()
    for name, text in _FILES.items():
        (root / name).write_text(text)
    git.run(root, "init", "--quiet", "--initial-branch=main", "--template=", env=git.ALONE)
    git.run(root, "add", "--all", env=git.ALONE)
    git.run(root, "commit", "--quiet", "--message=A small program", env=git.ALONE | git.AUTHOR)


@contextlib.asynccontextmanager
async def _bundled(root: Path) -> AsyncIterator[bundle.Bundle]:
    """`bundle.made`, its git off the event loop."""
    with contextlib.ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, bundle.made(root))


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    yield await asyncio.to_thread(path.read_bytes)
