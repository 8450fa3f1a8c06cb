"""`squib retry`."""

from squib.cli import connect, exits, options
from squib.cli.output import say, say_json
from squib.cli.run import attend


def retry(
    task: str,
    /,
    *,
    detach: bool = False,
    json: options.Json = False,
) -> int:
    """Start an ended task again as a new one.

    Args:
        task: The ended task's id.
        detach: Print the new task's id and return at once.
        json: Print the new task as JSON once it has ended (at once with --detach).
    """
    with connect.client() as client:
        again = client.tasks.retry(task)
        if not detach:
            return attend(client, again, json=json)
    if json:
        say_json(again)
    else:
        say(again.id)
    return exits.OK
