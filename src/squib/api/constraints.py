"""The rules that the contracts check in code, told again as JSON Schema for the OpenAPI document.

The types come from the dataclasses by themselves; ranges, lengths and patterns stand here. A test sends what this
allows and what it forbids to the API and finds them agreed.
"""

from typing import Any

from squib.api.config import ApiConfig
from squib.api.refs import REF
from squib.api.terminal import MAX_OUTPUT_BYTES, MAX_SECONDS
from squib.contracts.api import MAX_NAME_CHARS, MAX_REASON_CHARS
from squib.contracts.task import MAX_PROMPT_CHARS, REPOSITORY_URL

_PLAIN = r"^[^\x00]*$"
#: What Python takes for white space; a regular expression's `\s` is not the same everywhere.
_SPACE = r"\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_NOT_BLANK = rf"^[^\x00]*[^\x00{_SPACE}][^\x00]*$"
_PROMPT = {"minLength": 1, "maxLength": MAX_PROMPT_CHARS, "pattern": _NOT_BLANK}
_UPLOAD = r"^upl-[0-9a-hjkmnp-tv-z]{26}$"

#: By schema and property: what is added to the property's schema (to its string or number arm where it may be null).
RULES: dict[str, dict[str, dict[str, Any]]] = {
    "TaskSpec": {
        "prompt": _PROMPT,
        "agent": {"minLength": 1, "maxLength": 64, "pattern": _PLAIN},
        "model": {"minLength": 1, "maxLength": 200, "pattern": _PLAIN},
        "image": {"pattern": "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"},
        "test_command": {"minLength": 1, "maxLength": 10_000, "pattern": _PLAIN},
        "labels": {
            "maxProperties": 64,
            "propertyNames": {"minLength": 1, "maxLength": 63, "pattern": _PLAIN},
            "additionalProperties": {"type": "string", "maxLength": 255, "pattern": _PLAIN},
        },
    },
    "Repository": {
        "url": {"maxLength": 2000, "pattern": f"^{REPOSITORY_URL}$"},
        "ref": {"pattern": REF},
        "upload": {"pattern": _UPLOAD},
    },
    "SandboxRequest": {
        "driver": {"pattern": _PLAIN},
        "cpu": {"minimum": 0.1, "maximum": 64},
        "memory": {"minimum": 256, "maximum": 262_144},
        "disk": {"minimum": 64, "maximum": 1_048_576},
    },
    "Limits": {
        "seconds": {"minimum": 1, "maximum": 604_800},
        "turn_seconds": {"minimum": 1, "maximum": 604_800},
        "idle_seconds": {"minimum": 0, "maximum": 86_400},
    },
    "MessageRequest": {"prompt": _PROMPT},
    "CancelBody": {"reason": {"maxLength": MAX_REASON_CHARS, "pattern": _PLAIN}},
    "TokenRequest": {"name": {"minLength": 1, "maxLength": MAX_NAME_CHARS, "pattern": _NOT_BLANK}},
    "TerminalRequest": {
        "cwd": {"pattern": _PLAIN},
        "stdin": {"pattern": _PLAIN},
        "timeout_seconds": {"exclusiveMinimum": 0, "maximum": MAX_SECONDS},
        "max_output_bytes": {"minimum": 0, "maximum": MAX_OUTPUT_BYTES},
        "env": {
            "propertyNames": {"minLength": 1, "pattern": r"^[^=\x00]*$"},
            "additionalProperties": {"type": "string", "pattern": _PLAIN},
        },
        "command": {
            "anyOf": [
                {"type": "string", "minLength": 1, "pattern": _PLAIN},
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "string", "pattern": _PLAIN},
                    "prefixItems": [{"type": "string", "minLength": 1, "pattern": _PLAIN}],
                },
            ]
        },
    },
}
#: Exactly one of the two; null counts as absent.
_ONE_OF = [
    {"required": ["url"], "properties": {"url": {"type": "string"}, "upload": {"type": "null"}}},
    {"required": ["upload"], "properties": {"upload": {"type": "string"}, "url": {"type": "null"}}},
]


def apply(schemas: dict[str, dict[str, Any]], config: ApiConfig) -> None:
    """Add the rules to the schemas of the bodies, in place; where names are configured, they are the only ones."""
    for name, properties in RULES.items():
        schema = schemas[name]
        schema["additionalProperties"] = False
        for field, rules in properties.items():
            _constrain(schema["properties"][field], rules)
    schemas["Repository"]["oneOf"] = _ONE_OF
    if config.agents:
        _constrain(schemas["TaskSpec"]["properties"]["agent"], {"enum": list(config.agents)})
    if config.drivers:
        _constrain(schemas["SandboxRequest"]["properties"]["driver"], {"enum": list(config.drivers)})


def _constrain(schema: dict[str, Any], rules: dict[str, Any]) -> None:
    arms = schema.get("anyOf", [schema])
    if "anyOf" in rules:
        schema.update(rules)
        return
    for arm in arms:
        if arm.get("type") != "null":
            arm.update(rules)
