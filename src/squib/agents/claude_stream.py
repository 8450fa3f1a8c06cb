"""Claude Code's stream-json: its lines made into events, and the judgement of a run.

A run's cost is the program's own account of it: `total_cost_usd` counts a resumed session from its beginning, but
`model_usage_since_last_result`, on the same line, counts from the last result line of this very process, over all
models that it called. So a parser needs to know nothing of earlier runs. Several result lines add up.
"""

from dataclasses import dataclass
from typing import Any

from squib.agents import lines
from squib.agents.base import Outcome
from squib.contracts.event import Draft, EventType

_KEY_ADVICE = "Set a valid key in squib's settings (SQUIB_PROVIDERS__ANTHROPIC__API_KEY) and retry the task."


@dataclass
class _Sums:
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0

    def add(self, usage: dict[str, Any]) -> None:
        """Add a message's or a result's `usage`."""
        self.input_tokens += lines.count(usage.get("input_tokens"))
        self.output_tokens += lines.count(usage.get("output_tokens"))
        self.cache_read_tokens += lines.count(usage.get("cache_read_input_tokens"))
        self.cache_write_tokens += lines.count(usage.get("cache_creation_input_tokens"))

    def add_model(self, usage: dict[str, Any]) -> None:
        """Add one model's entry of `model_usage_since_last_result`."""
        self.input_tokens += lines.count(usage.get("inputTokens"))
        self.output_tokens += lines.count(usage.get("outputTokens"))
        self.cache_read_tokens += lines.count(usage.get("cacheReadInputTokens"))
        self.cache_write_tokens += lines.count(usage.get("cacheCreationInputTokens"))
        self.cost_usd += lines.amount(usage.get("costUSD"))

    def data(self) -> dict[str, Any]:
        """An `agent.usage` event's data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class ClaudeParser:
    """See agents.base.Parser."""

    def __init__(self) -> None:
        self.finished = False
        self._session: str | None = None
        self._result: dict[str, Any] = {}
        self._turns = 0
        self._sums = _Sums()  # of all result lines
        self._messages: dict[str, dict[str, Any]] = {}  # usage by message, since the last result line

    def feed(self, line: bytes) -> list[Draft]:
        """See agents.base.Parser."""
        message = lines.document(line)
        if message is None:
            return [lines.raw(line)] if line.strip() else []
        self._session = lines.text(message.get("session_id")) or self._session
        kind = message.get("type")
        if kind == "assistant":
            return self._assistant(message, line)
        if kind == "user":
            return self._user(message, line)
        if kind == "result":
            return self._ended(message, line)
        if kind == "system":
            return self._system(message, line)
        return [] if kind == "stream_event" else [lines.raw(line)]  # pieces of messages that follow whole

    def _system(self, message: dict[str, Any], line: bytes) -> list[Draft]:
        subtype = message.get("subtype")
        if subtype == "init":
            version, model = message.get("claude_code_version"), message.get("model")
            said = f"Claude Code {version}, model {model}, session {self._session}"
        elif subtype == "api_retry":
            status, attempt, most = (message.get(k) for k in ("error_status", "attempt", "max_retries"))
            said = f"The model's API failed ({status}, {message.get('error')}); retry {attempt} of {most}."
        else:
            return [lines.raw(line)]
        return [lines.draft(EventType.AGENT_LOG, {"stream": "stdout", "text": said}, len(line))]

    def _assistant(self, message: dict[str, Any], line: bytes) -> list[Draft]:
        body, drafts = lines.mapping(message.get("message")), []
        if name := lines.text(body.get("id")):
            self._messages[name] = lines.mapping(body.get("usage"))
        for block in lines.items(body.get("content")):
            kind = block.get("type")
            if kind == "text":
                data = {"role": "assistant", "text": lines.text(block.get("text"))}
                drafts.append(self._draft(EventType.AGENT_MESSAGE, data, message, line))
            elif kind == "thinking":
                data = {"role": "thinking", "text": lines.text(block.get("thinking"))}
                drafts.append(self._draft(EventType.AGENT_MESSAGE, data, message, line))
            elif kind == "tool_use":
                call = {k: block.get(k) for k in ("id", "name", "input")}
                drafts.append(self._draft(EventType.AGENT_TOOL, call, message, line))
        return drafts or [lines.raw(line)]

    def _user(self, message: dict[str, Any], line: bytes) -> list[Draft]:
        content = lines.mapping(message.get("message")).get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        drafts = []
        for block in lines.items(content):
            if block.get("type") == "tool_result":
                data = {
                    "id": block.get("tool_use_id"),
                    "text": _shown(block.get("content")),
                    "is_error": block.get("is_error") is True,
                    "truncated": False,
                }
                drafts.append(self._draft(EventType.AGENT_OUTPUT, data, message, line))
            elif block.get("type") == "text":
                data = {"role": "user", "text": lines.text(block.get("text"))}
                drafts.append(self._draft(EventType.AGENT_MESSAGE, data, message, line))
        return drafts or [lines.raw(line)]

    def _draft(self, kind: EventType, data: dict[str, Any], message: dict[str, Any], line: bytes) -> Draft:
        if parent := lines.text(message.get("parent_tool_use_id")):
            data["parent"] = parent  # a subagent's
        return lines.draft(kind, data, len(line))

    def _ended(self, message: dict[str, Any], line: bytes) -> list[Draft]:
        self.finished, self._result = True, message
        self._turns += lines.count(message.get("num_turns"))
        self._messages.clear()
        models = message.get("model_usage_since_last_result")
        if isinstance(models, dict):
            for usage in models.values():
                self._sums.add_model(lines.mapping(usage))
        else:  # an older program: its total is too high after a resume, and never too low
            self._sums.add(lines.mapping(message.get("usage")))
            self._sums.cost_usd = lines.amount(message.get("total_cost_usd"))
        drafts = [lines.draft(EventType.AGENT_USAGE, self._sums.data(), 0)]
        if denied := [lines.text(d.get("tool_name")) or "?" for d in lines.items(message.get("permission_denials"))]:
            said = f"{len(denied)} tool calls were denied: {', '.join(denied)}"
            drafts.append(lines.draft(EventType.AGENT_LOG, {"stream": "stdout", "text": said}, len(line)))
        return drafts

    def finish(self, exit_code: int | None, stderr_tail: str) -> Outcome:
        """See agents.base.Parser. Good: status 0, and a result line that says success without the error flag."""
        result, sums = self._result, _Sums(**self._sums.data())
        for usage in self._messages.values():  # of a run that was cut off: what is known of it
            sums.add(usage)
        claims = self.finished and result.get("subtype") == "success" and not result.get("is_error")
        good = claims and exit_code == 0
        return Outcome(
            good=good,
            reason=None if good else _reason(result if self.finished else None, claims, exit_code, stderr_tail),
            result=lines.text(result.get("result")) if good else None,
            session_id=self._session,
            turns=self._turns,
            **sums.data(),
        )


def _shown(content: Any) -> str:
    """A tool's result as text: it is text, or blocks of text and other things."""
    if isinstance(content, str):
        return content
    return "\n".join(
        lines.text(b.get("text")) if b.get("type") == "text" else f"[{lines.text(b.get('type'))}]"
        for b in lines.items(content)
    )


def _reason(result: dict[str, Any] | None, claims: bool, exit_code: int | None, stderr_tail: str) -> str:
    """Why a run is not good, and what a person can do."""
    tail = f" Its last words: {stderr_tail.strip()[-500:]}" if stderr_tail.strip() else ""
    if result is None:
        if exit_code == 0:
            return f"Claude Code ended without a result: it was interrupted.{tail} Retry the task."
        if exit_code is not None and (exit_code < 0 or exit_code > 128):
            number = -exit_code if exit_code < 0 else exit_code - 128
            return f"Claude Code was ended by signal {number} before it gave a result.{tail}"
        return f"Claude Code ended with status {exit_code} and without a result.{tail}"
    if claims:
        return f"Claude Code gave a result but then ended with status {exit_code}.{tail}"
    said = lines.text(result.get("result")) or "; ".join(_errors(result)) or lines.text(result.get("subtype"))
    return f"{said[:1000].rstrip('. ')}. {_advice(result, said)}"


def _errors(result: dict[str, Any]) -> list[str]:
    found = result.get("errors")
    return [e for e in found if isinstance(e, str)] if isinstance(found, list) else []


def _advice(result: dict[str, Any], said: str) -> str:
    status, subtype = lines.count(result.get("api_error_status")), result.get("subtype")
    if status in (401, 403):
        return f"The model's provider refused the key (status {status}). {_KEY_ADVICE}"
    if status == 404:
        return "The provider does not know the model: name another one with the task, or leave it out."
    if status == 429:
        return "The provider's rate limit or quota is used up: wait, or raise it with the provider, and retry."
    if status == 413:
        return "The conversation is too large for the model: start a new task with a smaller step."
    if status >= 500:
        return "The provider failed or could not be reached: retry the task; squib's log says more."
    if subtype == "error_max_turns":
        return "Split the task into smaller ones."
    if "No conversation found" in said:
        return "The session is gone with its sandbox: send the prompt as a new task."
    return "Read the events above, and retry the task."
