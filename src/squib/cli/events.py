"""`squib events`."""

from squib.cli import connect, exits, options
from squib.cli.follow import follow as attend
from squib.cli.follow import printer


def events(
    task: str,
    /,
    *,
    after: int = 0,
    follow: bool = False,
    json: options.Json = False,
) -> int:
    """Print a task's events.

    Args:
        task: The task's id.
        after: Only those after the event of this number.
        follow: Go on with what happens until the task has ended.
        json: Print one event a line as JSON.
    """
    if after < 0:
        raise exits.Usage("--after: must be 0 or more", fields={"after": "must be 0 or more"})
    with connect.client() as client:
        if follow:
            with printer(as_json=json) as shown:
                attend(client, task, shown.show, after=after)
            return exits.OK
        with printer(as_json=json) as shown:
            while page := client.tasks.event_page(task, after=after).events:
                for event in page:
                    shown.show(event)
                after = page[-1].seq
    return exits.OK
