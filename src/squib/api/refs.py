"""Names of git's, as patterns that the OpenAPI document can carry."""

import re

#: A full commit id, SHA-1 or SHA-256.
COMMIT = r"^([0-9a-f]{40}|[0-9a-f]{64})$"
#: git-check-ref-format(1)'s rules, as `contracts.task` checks them.
REF = (
    r"^(?![-/])(?!@$)(?!.*(//|\.\.|@\{))(?!(.*/)?\.)(?!.*\.lock(/|$))(?!.*[/.]$)"
    r"[^\x00-\x20\x7f~^:?*\[\\]{1,255}$"
)


def is_ref(name: str) -> bool:
    """Whether git takes this name of a branch, tag or commit."""
    return re.fullmatch(REF, name) is not None and not name.endswith("\n")
