"""`squib cancel`."""

from squib.cli import connect, exits, options
from squib.cli.output import say, say_json


def cancel(task: str, /, *, reason: str | None = None, json: options.Json = False) -> int:
    """Ask for a task's end.

    Args:
        task: The task's id.
        reason: Why, for its events.
        json: Print the task as JSON.
    """
    with connect.client() as client:
        found = client.tasks.cancel(task, reason)
    if json:
        say_json(found)
    else:
        say(f"{found.id} is {found.state.value}" + ("" if found.state.terminal else ", and ends soon"))
    return exits.OK
