"""`python -m squib.api.openapi [FILE]` writes the OpenAPI document, by default to docs/openapi.json."""

import sys
from collections.abc import Sequence
from pathlib import Path

from squib.api.app import all_routes
from squib.api.config import ApiConfig
from squib.api.document import document, render


def generate() -> str:
    """The document as text, of an installation that names no agents or drivers of its own."""
    return render(document(all_routes(), ApiConfig(key=b"", agents=())))


def main(arguments: Sequence[str]) -> None:
    """Write it."""
    target = Path(arguments[0]) if arguments else Path("docs/openapi.json")
    target.write_text(generate(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
