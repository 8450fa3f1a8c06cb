"""`squib token create|list|revoke`."""

from cyclopts import App

from squib.cli import connect, exits, options
from squib.cli.list import age
from squib.cli.output import clean, note, say, say_json, table

app = App(name="token", default_parameter=options.COMMON, help="Make, list and revoke access tokens.")


@app.command
def create(name: str, /, *, json: options.Json = False) -> int:
    """Make a token and print it, this once.

    Args:
        name: What it is for.
        json: Print it as JSON, with its id.
    """
    with connect.client() as client:
        token = client.tokens.create(name)
    if json:
        say_json(token)
    else:
        note(f"squib: {token.id}; squib keeps only its hash, so it is shown this once")
        say(token.secret or "")
    return exits.OK


@app.command(name="list")
def list_(*, json: options.Json = False) -> int:
    """List your tokens.

    Args:
        json: Print one token a line as JSON.
    """
    with connect.client() as client:
        tokens = client.tokens.list()
    if json:
        for token in tokens:
            say_json(token)
        return exits.OK
    table(
        ("id", "age", "last used", "name"),
        [
            [
                token.id,
                age(token.created_at),
                age(token.last_used_at) if token.last_used_at else "never",
                clean(token.name),
            ]
            for token in tokens
        ],
    )
    return exits.OK


@app.command
def revoke(token: str, /, *, json: options.Json = False) -> int:
    """End a token at once.

    Args:
        token: Its id, as 'squib token list' shows it.
        json: Print the id as JSON.
    """
    with connect.client() as client:
        client.tokens.revoke(token)
    if json:
        say_json({"revoked": token})
    else:
        say(f"{token} is revoked")
    return exits.OK
