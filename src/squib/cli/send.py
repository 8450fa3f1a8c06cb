"""`squib send`."""

from squib.cli import connect, exits, options
from squib.cli.output import say, say_json
from squib.cli.run import attend


def send(
    task: str,
    prompt: str,
    /,
    *,
    detach: bool = False,
    json: options.Json = False,
) -> int:
    """Give a task one more turn in the same sandbox.

    Args:
        task: The task's id; it must not have ended ('squib run --keep 10m' keeps its sandbox).
        prompt: What the agent shall do now.
        detach: Return at once, without following the turn.
        json: Print the task as JSON once the turn is over (the message at once with --detach).
    """
    with connect.client() as client:
        before = client.tasks.get(task)
        message = client.tasks.send(task, prompt)
        if not detach:
            return attend(client, before, json=json, after=before.last_seq)
        if json:
            say_json(message)
        else:
            say(f"turn {message.turn}")
    return exits.OK
