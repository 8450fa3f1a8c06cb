"""Claude Code, Anthropic's command line, run headless: one process a turn, its stream-json read by `ClaudeParser`.

The provider's key stays outside: the program gets a placeholder, and talks to the gateway on the guest's loopback,
which adds the real one. Prompts go by standard input.
"""

from squib.agents.base import Command, Turn
from squib.agents.claude_stream import ClaudeParser
from squib.contracts.errors import InvalidRequest

#: What the program shows where it would show a key: `env`, run by the agent, prints this.
PLACEHOLDER_KEY = "held-by-the-gateway"
_TOOLS = "Bash,Edit,Read,Write,Glob,Grep"
_RETRIES = "4"  # of the model's API, before a run fails; the program's own default takes minutes to report a 401


class Claude:
    """See agents.base.Agent. `max_retries` among the options sets how often a failed call is tried again."""

    name = "claude"
    program = "claude"
    install = (
        "npm install --prefix DIR @anthropic-ai/claude-code, where DIR is the `tools` directory of the settings."
    )
    provider = "anthropic"
    guest_options = ("max_retries",)

    def command(self, turn: Turn) -> Command:
        """Say what to start for this turn. Raises InvalidRequest where the guest has no gateway."""
        if turn.gateway_url is None:
            raise InvalidRequest("agent: claude needs the model gateway, and this sandbox has none")
        argv = ["claude", "-p", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions"]
        argv += ["--tools", _TOOLS, "--strict-mcp-config", "--setting-sources", ""]
        if turn.model:
            argv += ["--model", turn.model]
        if turn.session_id:
            argv += ["--resume", turn.session_id]
        env = {
            "ANTHROPIC_BASE_URL": turn.gateway_url.rstrip("/") + "/anthropic",
            "ANTHROPIC_API_KEY": PLACEHOLDER_KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": turn.options.get("max_retries", _RETRIES),
            "IS_SANDBOX": "1",  # it refuses to skip permissions as uid 0 otherwise
        }
        return Command(argv, env=env, stdin=turn.prompt.encode("utf-8", "replace"))

    def parser(self) -> ClaudeParser:
        """A new parser for one run."""
        return ClaudeParser()
