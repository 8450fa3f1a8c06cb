from pathlib import Path

from squib.host.drivers import sandbox


def test_a_link_of_an_image_never_shows_the_host(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for name in ("usr/bin", "opt/tool", "opt/squib"):
        (root / name).mkdir(parents=True)
    outside.mkdir()
    for name in ("srv2", "lib", "opt/link"):
        (root / name).symlink_to(outside)
    options = sandbox.root(str(root))
    bound = [options[at + 1] for at, option in enumerate(options) if option == "--ro-bind"]
    assert bound == [str(root / "usr"), str(root / "opt/tool")]
    assert options[options.index("/opt/link") - 2 :][:2] == ("--symlink", str(outside))


def test_a_link_in_place_of_opt_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / "outside" / "secret").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "opt").symlink_to(tmp_path / "outside")
    assert not any("secret" in option for option in sandbox.root(str(tmp_path / "root")))
