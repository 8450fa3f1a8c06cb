"""What the model server says: a script of steps, chosen by the conversation alone, so that a resume works.

A script is JSON: a list of steps for every turn, or `{"turns": [[steps of turn 1], [of turn 2], …]}`, of which the
last goes on for later turns. A step is one answer of the model:

    {"tool": "Bash", "input": {"command": "ls"}, "say": "I look around."}    a tool call, with words before it
    {"text": "Done."}                                                        the end of the turn
    {"text": "One word at a time.", "slow_ms": 500}                          the same, dribbled
    {"error": 429, "message": "slow down"}                                   the API fails, as often as it is asked

The step is the number of tool results since the turn's prompt; after the last step the model says "Done.". In texts
and inputs, `{cwd}`, `{turn}`, `{prompt}` and `{first}` (the first turn's prompt) are filled in.

A prompt may hold directives that come before the script: `model:run=COMMAND` (to the end of the line: one call of
Bash, then the end), `model:error=STATUS`, `model:slow=MILLISECONDS` (between the words of the final text).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

_DIRECTIVE = re.compile(r"model:(run)=([^\n]+)|model:(error|slow)=(\d+)")
_CWD = re.compile(r"[Ww]orking directory(?: is)?:\s*(/[^\s\\<]*)")
_MARKS = re.compile(r"\{(cwd|turn|prompt|first)\}")


@dataclass(frozen=True)
class Step:
    """One answer of the model: exactly one of tool, text and error."""

    tool: str | None = None
    input: dict[str, Any] = field(default_factory=dict)
    say: str = ""
    text: str | None = None
    slow_ms: float = 0.0
    error: int | None = None
    message: str = "the script says so"

    def __post_init__(self) -> None:
        """Raise ValueError for a step that says nothing, or too much."""
        if sum(x is not None for x in (self.tool, self.text, self.error)) != 1:
            raise ValueError(f"a step needs one of tool, text and error: {self}")


DEFAULT: list[list[Step]] = [
    [
        Step("Write", {"file_path": "{cwd}/hello.py", "content": 'print("hello from squib")\n'}, "I write hello.py."),
        Step("Bash", {"command": "python3 hello.py", "description": "Run it"}, "I run it."),
        Step(text="Done: I wrote hello.py and ran it."),
    ],
    [Step(text="This is turn {turn} of our conversation, which began with: {first}")],
]


def load(path: Path) -> list[list[Step]]:
    """Read a script. Raises OSError, or ValueError that says what is wrong with it."""
    document = json.loads(path.read_text("utf-8"))
    turns = document.get("turns") if isinstance(document, dict) else [document]
    if not isinstance(turns, list) or not turns or not all(isinstance(steps, list) for steps in turns):
        raise ValueError('a script is a list of steps, or {"turns": [[…], …]}')
    try:
        return [[Step(**step) for step in steps] for steps in turns]
    except TypeError as error:
        raise ValueError(f"a step has an unknown or a wrong field: {error}") from error


@dataclass(frozen=True)
class Conversation:
    """What a request tells of the conversation so far."""

    prompts: list[str]  # the user's, one a turn
    results: int  # tool results since the last of them
    tools: list[str]
    cwd: str


def read(request: Mapping[str, Any]) -> Conversation:
    """Read the body of a Messages request."""
    prompts, results = [], 0
    for message in request.get("messages", []):
        if message.get("role") != "user":
            continue
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        answers = sum(block.get("type") == "tool_result" for block in blocks)
        texts = [
            b["text"] for b in blocks if b.get("type") == "text" and not b["text"].lstrip().startswith("<system-")
        ]
        if answers:
            results += answers
        elif texts:
            prompts.append("\n".join(texts))
            results = 0
    found = _CWD.search(json.dumps([request.get("system"), request.get("messages")], ensure_ascii=False))
    names = [str(tool.get("name")) for tool in request.get("tools") or []]
    return Conversation(prompts, results, names, found[1].rstrip(".") if found else ".")


def choose(turns: Sequence[Sequence[Step]], said: Conversation) -> Step:
    """The step that comes now."""
    prompt = said.prompts[-1] if said.prompts else ""
    if not said.tools:  # a side question, such as for a title
        return Step(text="A task")
    asked = {m[1] or m[3]: m[2] or m[4] for m in _DIRECTIVE.finditer(prompt)}
    if "error" in asked:
        return Step(error=int(asked["error"]))
    steps = turns[min(max(len(said.prompts), 1), len(turns)) - 1]
    if "run" in asked:
        steps = [Step("Bash", {"command": asked["run"], "description": "Run it"}), Step(text="I ran it.")]
    step = steps[said.results] if said.results < len(steps) else Step(text="Done.")
    if step.tool is not None and step.tool not in said.tools:
        step = Step(text=f"I have no tool {step.tool}.")
    if step.text is not None and "slow" in asked:
        step = replace(step, slow_ms=float(asked["slow"]))
    words = {"cwd": said.cwd, "turn": str(len(said.prompts)), "prompt": prompt, "first": "".join(said.prompts[:1])}
    return replace(
        step, text=_filled(step.text, words), say=_filled(step.say, words), input=_filled(step.input, words)
    )


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _MARKS.sub(lambda mark: words[mark[1]], value)
    if isinstance(value, dict):
        return {k: _filled(v, words) for k, v in value.items()}
    return [_filled(v, words) for v in value] if isinstance(value, list) else value
