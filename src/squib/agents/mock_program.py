"""The mock agent's program: reads a prompt from standard input and works in the current directory, without a model.

It writes AGENT_TASK.md (the prompt and a plan), makes the git repository if there is none, and commits the plan. A
follow-up (`--resume SESSION`) adds a section to the file and one more commit. What it does is told as one JSON object
a line. The standard library alone, and little of it: this starts in a sandbox while somebody waits.

A prompt may hold directives, for tests and demonstrations, done in this order:

    mock:write=PATH      write the prompt to that file, too
    mock:run=COMMAND     run the rest of the line by `sh -c` and show its output; it may fail
    mock:spawn           leave a `sleep 300` behind in a session of its own
    mock:lines=N         print N lines of output
    mock:every_ms=M      ... one each M milliseconds, each with the time (`at`, seconds since 1970) it was printed
    mock:size=BYTES      ... each with so many bytes of text
    mock:sleep=SECONDS   wait before the end
    mock:crash           end with status 137 and without a result
    mock:fail            end with an error: the agent's own failure
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

PLAN = "AGENT_TASK.md"
_DIRECTIVE = re.compile(r"mock:(run)=([^\n]+)|mock:(\w+)(?:=(\S+))?")
_FLUSH_BYTES = 64 * 1024
_MAX_OUTPUT = 65_536  # characters shown of a command's output
_GIT = [
    "git",
    "-c",
    "user.name=squib mock agent",
    "-c",
    "user.email=mock@squib.invalid",
    "-c",
    "commit.gpgsign=false",
    "-c",
    "core.abbrev=12",
    "-c",
    "maintenance.auto=false",
]
_COMMITTED = re.compile(r"^\[.*?([0-9a-f]{12,})\] ", re.MULTILINE)


def main(argv: list[str]) -> int:
    """Run one turn; `argv` is `[]` or `["--resume", SESSION]`. Gives the exit status."""
    prompt = sys.stdin.buffer.read().decode("utf-8", "replace")
    asked = {m[1] or m[3]: m[2] or m[4] or "" for m in _DIRECTIVE.finditer(prompt)}
    resumed = argv[1] if len(argv) == 2 and argv[0] == "--resume" else None
    session = _Session(resumed)
    if not session.known:
        return _end(f"There is no session {resumed} to resume: send the task again.", error=True)
    _say("start", session_id=session.id)
    turn = session.add(prompt)
    _say("message", role="assistant", text=f"Turn {turn}: I write a plan and commit it.")
    try:
        commit = _plan(prompt, turn)
        _directives(prompt, asked)
    except (OSError, subprocess.CalledProcessError) as error:
        return _end(f"A step failed: {error}", error=True)
    _say("usage", input_tokens=len(prompt.split()), output_tokens=12, cost_usd=0.0)
    if "fail" in asked:
        return _end("The prompt asked for a failure (mock:fail).", error=True)
    return _end(f"Wrote {PLAN} and committed it as {commit}; turn {turn} of this session.")


class _Session:
    """What it remembers between turns: the number of them, in a file below HOME."""

    def __init__(self, resumed: str | None):
        self.id = resumed or os.urandom(16).hex()
        self._path = Path(os.environ.get("SQUIB_MOCK_HOME") or Path.home(), ".squib-mock", self.id)
        well_formed = re.fullmatch("[0-9a-f]{32}", self.id) is not None
        self.known = resumed is None or (well_formed and self._path.exists())

    def add(self, prompt: str) -> int:
        """Remember a prompt, and give the number of this turn."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("a+", encoding="utf-8") as file:
            file.write(json.dumps(prompt) + "\n")
            file.seek(0)
            return sum(1 for _ in file)


def _say(kind: str, **data: Any) -> None:
    sys.stdout.write(json.dumps({"type": kind, **data}, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _end(result: str, *, error: bool = False) -> int:
    _say("result", result=result, is_error=error)
    return 1 if error else 0


def _plan(prompt: str, turn: int) -> str:
    first = prompt.strip().splitlines()[0][:60] if prompt.strip() else "nothing"
    _say("tool", id="plan", name="write", input={"path": PLAN})
    with open(PLAN, "a" if turn > 1 else "w", encoding="utf-8") as file:
        quoted = "\n".join("> " + line for line in prompt.splitlines())
        title = f"\n## Turn {turn}\n" if turn > 1 else "# Task\n"
        file.write(f"{title}\n{quoted}\n\n### Plan\n\n1. Read the code.\n2. Change it.\n3. Run its tests.\n")
    _say("output", id="plan", text=f"wrote {PLAN}", is_error=False, truncated=False)
    _say("tool", id="commit", name="git", input={"command": "git commit"})
    if not Path(".git").exists():
        _git("init", "--quiet", "--initial-branch=main")
    _git("add", "--", PLAN)
    said = _git("commit", "--no-verify", "-m", f"Plan: {first}", "--", PLAN)
    found = _COMMITTED.search(said)
    commit = found[1] if found is not None else _git("rev-parse", "--short=12", "HEAD")
    _say("output", id="commit", text=f"committed {commit}", is_error=False, truncated=False)
    return commit


def _git(*arguments: str) -> str:
    done = subprocess.run(
        [*_GIT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise OSError(f"git {arguments[0]}: {done.stdout.strip()[:500]}")
    return done.stdout.strip()


def _directives(prompt: str, asked: dict[str, str]) -> None:
    if path := asked.get("write"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(prompt)
    if command := asked.get("run"):
        _run(command)
    if "spawn" in asked:
        null = subprocess.DEVNULL
        child = subprocess.Popen(["sleep", "300"], start_new_session=True, stdin=null, stdout=null, stderr=null)
        _say("output", id="spawn", text=f"left pid {child.pid} behind", is_error=False, truncated=False)
    if number := _number(asked, "lines"):
        _lines(int(number), _number(asked, "every_ms") / 1000, int(_number(asked, "size")))
    time.sleep(_number(asked, "sleep"))
    if "crash" in asked:
        _crash()


def _number(asked: dict[str, str], name: str) -> float:
    try:
        return max(0.0, float(asked.get(name) or 0))
    except ValueError:
        raise OSError(f"mock:{name} needs a number") from None


def _run(command: str) -> None:
    _say("tool", id="run", name="shell", input={"command": command})
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    shown = done.stdout.decode("utf-8", "replace")
    cut = shown[-_MAX_OUTPUT:]
    _say("output", id="run", text=cut, is_error=done.returncode != 0, truncated=len(cut) < len(shown))


def _lines(number: int, pause: float, size: int) -> None:
    padding = "x" * size
    due, waiting = time.monotonic(), ""
    for n in range(1, number + 1):
        line = {"type": "output", "id": "lines", "text": padding or f"line {n}", "is_error": False, "n": n}
        if pause:
            due += pause
            time.sleep(max(0.0, due - time.monotonic()))
            line["at"] = time.time()
        waiting += json.dumps(line) + "\n"
        if pause or len(waiting) >= _FLUSH_BYTES:
            sys.stdout.write(waiting)
            sys.stdout.flush()
            waiting = ""
    sys.stdout.write(waiting)
    sys.stdout.flush()


def _crash() -> NoReturn:
    os._exit(137)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
