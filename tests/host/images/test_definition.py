from pathlib import Path

import pytest

from squib.contracts.errors import InvalidRequest, NotFound
from squib.host.images import load, names
from squib.host.images.definition import COMMON

SIX = ["agent", "go", "nextjs", "node", "python", "rust"]


def test_squib_brings_six_and_each_can_be_read() -> None:
    assert names() == SIX
    for name in SIX:
        read = load(name)
        assert (read.name, bool(read.summary), bool(read.warmup)) == (name, True, True)
        assert set(COMMON) <= set(read.all_packages)
        assert all((Path(read.folder) / source).exists() for source in read.files.values())


def test_no_definition_is_long_or_names_an_address() -> None:
    for name in SIX:
        text = (Path(load(name).folder) / f"{name}.toml").read_text()
        assert len(text.splitlines()) <= 40
        assert "://" not in text


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('pip = ["pytest"]', "pip"),
        ('pip = ["pytest==1; rm -rf /"]', "pip"),
        ('packages = ["-o=x"]', "packages"),
        ('packages = "git"', "packages"),
        ('npm = ["relative"]', "npm"),
        ('suite = "../etc"', "suite"),
        ('files = { "/opt/x" = "../secret" }', "files"),
        ('files = { "/opt/x" = "/etc/shadow" }', "files"),
        ('files = { "/opt/../etc" = "x" }', "files"),
        ('links = { "/" = "x" }', "links"),
        ('environment = { "A=B" = "x" }', "environment"),
        ('colour = "red"', "colour"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, line: str, field: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f'summary = "x"\n{line}\n')
    with pytest.raises(InvalidRequest) as refused:
        load(str(path))
    assert field in refused.value.fields and str(path) in refused.value.detail


def test_a_file_that_is_no_toml_and_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("summary")
    with pytest.raises(InvalidRequest, match=r"bad\.toml can't be read"):
        load(str(tmp_path / "bad.toml"))
    with pytest.raises(NotFound) as missing:
        load("cobol")
    assert "python" in missing.value.advice
    with pytest.raises(InvalidRequest):
        load("../python")
