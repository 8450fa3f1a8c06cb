"""The SDK: squib's public HTTP API for Python programs, sync (`Client`) and async (`AsyncClient`).

`endpoints` and `sse` hold what both share, without any I/O: how a request is built, how an answer is read, how a
stream of events goes on after a lost connection. Errors are those of `squib.contracts.errors`.

Must not import any room but contracts. The cli and users' programs may import it.

    from squib.client import Client

    with Client("http://127.0.0.1:8080", token="sqb_…") as squib:
        task = squib.tasks.create(TaskSpec(prompt="Add a README"))
        for event in squib.tasks.events(task.id):
            print(event.seq, event.type)
"""

from squib.client.aio import AsyncClient
from squib.client.sync import Client

__all__ = ["AsyncClient", "Client"]
