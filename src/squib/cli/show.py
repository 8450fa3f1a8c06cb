"""`squib show`."""

import time

from squib.cli import connect, exits, options
from squib.cli.list import standing
from squib.cli.output import clean, say, say_json, styled
from squib.contracts import codec
from squib.contracts.task import Task


def show(task: str, /, *, json: options.Json = False) -> int:
    """Show a task: its state, its result, what is kept of it.

    Args:
        task: The task's id.
        json: Print it as JSON, its artifacts beside it.
    """
    with connect.client() as client:
        found = client.tasks.get(task)
        kept = client.tasks.artifacts(task)
    if json:
        say_json(codec.encode(found) | {"artifacts": codec.encode(kept)})
        return exits.OK
    for name, value in _fields(found):
        if value:
            say(f"{styled(name.ljust(12), 'bold')}{value}")
    for artifact in kept:
        say(f"{styled('kept'.ljust(12), 'bold')}{clean(artifact.name)}, {artifact.size} bytes")
    if found.result:
        say()
        say(clean(found.result))
    return exits.OK


def _fields(task: Task) -> list[tuple[str, str]]:
    spec, usage = task.spec, task.usage
    repository = spec.repository
    where = (repository.url or f"upload {repository.upload}") if repository else ""
    error = task.error or {}
    return [
        ("id", task.id),
        ("state", standing(task) + (", cancel requested" if task.cancel_requested else "")),
        ("prompt", clean(spec.prompt, lines=False)[:200]),
        ("agent", clean(" ".join(filter(None, (spec.agent, spec.model))))),
        ("repository", clean(where + (f" at {repository.ref}" if repository and repository.ref else ""))),
        ("base", task.base_commit or ""),
        ("head", task.head_commit or ""),
        ("sandbox", _sandbox(task)),
        ("image", clean(task.image or spec.image or "")),
        ("labels", clean(", ".join(f"{key}={value}" for key, value in spec.labels.items()), lines=False)),
        ("created", _local(task.created_at)),
        ("ended", _local(task.finished_at)),
        ("turn", str(task.turn) if task.turn > 1 else ""),
        ("attempt", str(task.attempt) if task.attempt > 1 else ""),
        ("used", f"{usage.output_tokens} tokens out, ${usage.cost_usd:.4f}" if usage.output_tokens else ""),
        ("retry of", task.retry_of or ""),
        ("error", clean(" ".join(str(error.get(name) or "") for name in ("detail", "advice")).strip())),
    ]


def _sandbox(task: Task) -> str:
    driver = task.driver or task.spec.sandbox.driver or ""
    where = {"memory": ", on disk with its memory", "workspace": ", put away: its work is kept"}
    return clean(f"{driver} {task.sandbox_id or ''}".strip() + where.get(task.suspended or "", ""))


def _local(seconds: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""
