"""What the agent is told when it goes on in a new sandbox. Pure."""

from collections.abc import Sequence

from squib.contracts.task import MAX_PROMPT_CHARS
from squib.scheduler.progress import Restored

_MAX_EARLIER = 2000  # characters of each earlier prompt
_MAX_ALL_EARLIER = 8000

#: What no saved workspace brings back.
ALWAYS_LOST = ("running processes", "installed packages and files outside the workspace", "the agent's own session")


def restored_prompt(prompt: str, restored: Restored | None, earlier: Sequence[str] = ()) -> str:
    """Put a short statement of what happened, and the prompts of earlier turns, before this turn's prompt."""
    if restored is None:
        return prompt
    lost = "; ".join(restored.lost)
    why = "put away while the task waited for this message" if restored.put_away else "lost"
    words = [
        f"[Note from squib: the sandbox in which this task was being worked on was {why}, and this is a new one. "
        f"The workspace comes from {restored.source}. Lost: {lost}. "
        "Look at what is there before you go on: part of the work may be done already.]",
    ]
    if earlier:
        words.append("Earlier requests of this task, which were answered in the sandbox before:\n" + _quoted(earlier))
        words.append("The present request:")
    note = "\n\n".join(words)
    return f"{note}\n\n{prompt}" if len(note) + len(prompt) + 2 <= MAX_PROMPT_CHARS else prompt


def _quoted(earlier: Sequence[str]) -> str:
    kept: list[str] = []
    room = _MAX_ALL_EARLIER
    for prompt in reversed(earlier):
        short = prompt if len(prompt) <= _MAX_EARLIER else prompt[:_MAX_EARLIER] + " […]"
        if len(short) > room:
            break
        room -= len(short)
        kept.append("- " + short)
    return "\n".join(reversed(kept))
