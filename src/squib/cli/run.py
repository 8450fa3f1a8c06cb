"""`squib run`."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from squib.cli import bundle, connect, exits, options
from squib.cli.follow import follow, idle, printer
from squib.cli.output import clean, note, say, say_json, styled
from squib.cli.patch import stat
from squib.client import Client
from squib.contracts.errors import SquibError
from squib.contracts.task import Limits, Repository, SandboxRequest, Task, TaskSpec, TaskState

_SECONDS = 3600
_PIECE = 256 * 1024
_LARGE = 8 * 1024 * 1024


def run(
    prompt: str,
    /,
    *,
    repo: str | None = None,
    ref: str | None = None,
    agent: str | None = None,
    model: str | None = None,
    sandbox: str | None = None,
    image: str | None = None,
    test: str | None = None,
    keep: options.Duration = 0,
    timeout: options.Duration = _SECONDS,
    label: options.Labels = (),
    detach: bool = False,
    json: options.Json = False,
) -> int:
    """Submit a task, follow it, and say what to do with the result.

    Ctrl-C asks the server to cancel the task; a second one leaves it running and returns.

    Args:
        prompt: What the agent shall do.
        repo: The repository to work on: a directory, sent with its uncommitted changes, or an https URL.
        ref: The branch, tag or commit to start from; of a directory, uncommitted changes are then left out.
        agent: Which agent; the server's default where absent.
        model: Which model, by the agent's own name for it.
        sandbox: Which driver makes the sandbox; the server's own where absent. It may be a stronger one, no weaker.
        image: What the sandbox is made of, by name or digest ('squib image list'); the server's default where absent.
        test: A command that says by its exit status whether the work is good.
        keep: How long the sandbox waits for another prompt after a turn, such as 10m (see 'squib send').
        timeout: When the whole task is ended, such as 30m; 1h where absent.
        label: A label KEY=VALUE, for 'squib list'; may be given again.
        detach: Return at once, and leave the task to the server.
        json: Print the task as JSON once it has ended (at once with --detach), and nothing else.
    """
    with connect.client() as client:
        spec = TaskSpec(
            prompt=prompt,
            agent=agent,
            model=model,
            repository=_repository(client, repo, ref, quiet=json),
            image=image,
            sandbox=SandboxRequest(driver=sandbox),
            limits=Limits(seconds=timeout, turn_seconds=timeout, idle_seconds=keep),
            test_command=test,
            labels=options.pairs(label),
        )
        task = client.tasks.create(spec)
        if detach:
            if json:
                say_json(task)
            else:
                say(task.id)
            return exits.OK
        return attend(client, task, json=json)


def attend(client: Client, task: Task, *, json: bool, after: int = 0) -> int:
    """Follow a task to its end, or to the end of its turn where its sandbox is kept; the exit status."""
    if not json:
        note(f"squib: {task.id}")
    try:
        if json:
            follow(client, task.id, lambda event: None, after=after, until=idle, cancel=True)
        else:
            with printer() as shown:
                follow(client, task.id, shown.show, after=after, until=idle, cancel=True)
    except KeyboardInterrupt:
        note(f"squib: left to the server; 'squib events --follow {task.id}' goes on")
        return exits.INTERRUPTED
    task = client.tasks.get(task.id)
    if json:
        say_json(task)
    else:
        _summary(client, task)
    return exits.OK if task.state in (TaskState.SUCCEEDED, TaskState.IDLE) else exits.FAILED


def _repository(client: Client, repo: str | None, ref: str | None, *, quiet: bool) -> Repository | None:
    if repo is None:
        if ref is not None:
            raise exits.Usage("--ref needs --repo", fields={"ref": "needs --repo"})
        return None
    if "://" in repo:
        return Repository(url=repo, ref=ref)
    with contextlib.ExitStack() as stack:
        with _busy(f"packing {repo}", quiet):
            made = stack.enter_context(bundle.made(Path(repo), ref))
        if not quiet:
            changes = f" and {made.uncommitted} uncommitted files" if made.uncommitted else ""
            shallow = " (shallow: sent without its history)" if made.shallow else ""
            note(f"squib: sending {made.branch or made.commit[:12]}{changes}, {made.size / 1e6:.1f} MB{shallow}")
        with _pieces(made, quiet) as pieces:
            sent = client.tasks.upload(pieces, commit=made.commit, base=made.base, branch=made.branch, size=made.size)
    return Repository(upload=sent.id)


@contextlib.contextmanager
def _busy(words: str, quiet: bool) -> Iterator[None]:
    """Say on a terminal what goes on, for as long as the block lasts."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(Text(words)):
        yield


@contextlib.contextmanager
def _pieces(made: bundle.Bundle, quiet: bool) -> Iterator[Iterable[bytes]]:
    """The bundle in pieces; of a large one a terminal shows how far it is."""
    with made.path.open("rb") as file:
        pieces = iter(lambda: file.read(_PIECE), b"")
        if quiet or made.size < _LARGE or not sys.stderr.isatty():
            yield pieces
            return
        with Progress(transient=True, console=Console(stderr=True)) as progress:
            bar = progress.add_task("sending", total=made.size)

            def counted() -> Iterator[bytes]:
                for piece in pieces:
                    yield piece
                    progress.advance(bar, len(piece))

            yield counted()


def _summary(client: Client, task: Task) -> None:
    """What came of it, and what to type next."""
    colour = "green" if task.state in (TaskState.SUCCEEDED, TaskState.IDLE) else "red"
    say()
    say(f"{styled(task.state.value.replace('_', ' '), 'bold', colour)}  {task.id}")
    if task.error:
        say(clean(" ".join(str(task.error.get(name) or "") for name in ("detail", "advice"))))
    if task.usage.output_tokens:
        used = task.usage.input_tokens + task.usage.cache_read_tokens + task.usage.cache_write_tokens
        say(f"{used} tokens in, {task.usage.output_tokens} out, ${task.usage.cost_usd:.4f}")
    try:
        patch = client.tasks.diff(task.id)
    except SquibError:
        return  # it ended before there was anything to keep
    for line in stat(patch):
        say(f"  {line}")
    if task.state is TaskState.IDLE:
        say(f"squib send {task.id} \"…\"   goes on from there, 'squib shell {task.id}' looks into the sandbox")
    if patch:
        say(f"squib diff {task.id}   shows the change")
        say(f"squib apply {task.id}   brings it into your repository as branch squib/{task.id}")
