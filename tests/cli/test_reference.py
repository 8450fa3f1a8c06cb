from pathlib import Path

import pytest

from squib.cli import reference
from squib.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("name", "page"), [("cli.md", reference.cli_page), ("settings.md", reference.settings_page)])
def test_the_page_is_what_the_code_says(name, page):
    assert (DOCS / name).read_text(encoding="utf-8") == page(), "run 'make generate'"


def test_every_setting_is_explained():
    def missing(kind, path=""):
        for name, field in kind.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                yield from missing(inner, f"{path}{name}.")
            elif not field.description:
                yield path + name

    assert list(missing(Settings)) == []
