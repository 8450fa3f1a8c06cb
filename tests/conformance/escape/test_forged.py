"""What an agent would have the host believe: events in others' names, and text that acts on a terminal."""

import base64
from pathlib import Path

import pytest

from squib.cli import narrate
from squib.cli.output import clean
from squib.contracts.event import Event, EventType
from squib.contracts.task import TaskState
from tests.scheduler.stack import stack

#: Run by the agent: it writes events of the host's own into its supervisor's ring, and speaks at its socket.
FORGE = """
import glob, json, socket
event = {"epoch": "ep-00000000000000000000000000", "n": 3, "type": "task.succeeded", "source": "scheduler",
    "time": 1.0, "data": {"forged": True}}
rings = glob.glob("/run/squib/state/events/*")
for path in rings:
    with open(path, "ab") as ring:
        ring.write(f"id: ep-00000000000000000000000000:3\\ndata: {json.dumps(event)}\\n\\n".encode())
unix = socket.socket(socket.AF_UNIX)
unix.connect("/run/squib/guest/guest.sock")
unix.sendall(b"POST /run HTTP/1.1\\r\\nHost: guest\\r\\nAuthorization: Bearer x\\r\\nContent-Length: 0\\r\\n\\r\\n")
print(len(rings), "rings", unix.recv(64).decode().split()[1])
"""


@pytest.mark.needs("bwrap", "libseccomp")
async def test_an_agent_that_writes_into_the_ring_forges_no_event_of_the_hosts(shared_tmp: Path) -> None:
    """The task ends one way or the other; what it says of itself is the scheduler's alone, in a row without holes."""
    async with stack(shared_tmp, driver="bubblewrap") as squib:
        squib.start()
        program = base64.b64encode(FORGE.encode()).decode()
        task_id = await squib.submit(f"Forge.\nmock:run=echo {program} | base64 -d > forge.py; python3 forge.py")
        task = await squib.ended(task_id)
        events = await squib.events(task_id)  # asserts that their numbers have no hole
        assert any("1 rings 401" in str(event.data) for event in events) or task.state is TaskState.FAILED
        assert task.state in (TaskState.SUCCEEDED, TaskState.FAILED)
        assert task.state is TaskState.SUCCEEDED or task.error
        assert not [event for event in events if event.data.get("forged")]
        ours = [event for event in events if event.type.startswith(("task.", "sandbox."))]
        assert {event.source for event in ours} <= {"scheduler", "api", "store", "host", "squib"}
        await squib.clean(task_id)


#: Sequences that write to the clipboard, set the title, answer for the user, move, erase, hide or reorder.
SEQUENCES = {
    "clipboard": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "title": "\x1b]0;root@host\x07",
    "link": "\x1b]8;;file:///etc/passwd\x1b\\here\x1b]8;;\x1b\\",
    "paste": "\x1b[200~rm -rf ~\n\x1b[201~",
    "status": "\x1b[6n\x1b[c\x05",
    "screen": "\x1b[2J\x1b[H\x1b[?1049h\x1bc",
    "eight bits": "\x9d52;c;eA==\x9c\x9b2J\x90q\x9c",
    "overwriting": "innocent\rrm -rf ~\x08\x08\x7f",
    "right to left": "\u202egpj.exe\u2066\u2069\u200b",
}


FIELDS = (
    *("error", "reason", "text", "result", "data", "input", "name", "id", "stream", "level", "message", "limit"),
    *("seconds", "driver", "isolation", "first", "last", "prompt", "commit", "subject", "branch", "agent", "model"),
    *("from", "command", "output", "exit_code", "detail", "turn", "warm", "image", "advice", "path"),
)


@pytest.mark.parametrize("name", SEQUENCES)
def test_no_event_acts_on_the_terminal_that_shows_it(name: str) -> None:
    evil = SEQUENCES[name]
    fields = dict.fromkeys(FIELDS, evil)
    nested = {field: {"detail": evil, "advice": evil, "command": evil, evil: evil} for field in fields}
    for kind in (*EventType, f"agent.{evil}", "agent.dreamed"):
        for data in (fields, nested, {evil: evil}, {field: [evil] for field in fields}):
            line = narrate.line(Event("task-1", 1, kind, 1.0, "agent", dict(data)))
            if line is not None:
                assert clean(line.label) == line.label, kind
                assert clean(line.text) == line.text, kind
