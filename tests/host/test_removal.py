import os
import subprocess
from pathlib import Path

import pytest

from squib.host.removal import remove_tree


def test_a_tree_is_removed_and_what_its_links_lead_to_is_not(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "file").write_text("x")
    (tree / "a" / "out").symlink_to(outside)
    (tree / "a" / "b" / "out").symlink_to(outside / "keep")
    os.mkfifo(tree / "a" / "pipe")
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "keep").read_text() == "x"


def test_depth_beyond_any_path_costs_neither_recursion_nor_descriptors(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    here = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 50, dir_fd=here)
        deeper = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    remove_tree(tree)
    assert not tree.exists()


@pytest.mark.parametrize("name", ["\n", "-rf", "\udcff\udcfe", " ", ".0.squib-removal", "*"])
def test_strange_names(tmp_path: Path, name: str) -> None:
    tree = tmp_path / "tree"
    (tree / "in" / name / "deeper").mkdir(parents=True)
    (tree / name).mkdir(exist_ok=True)
    (tree / name / "file").write_text("x")
    (tree / "in" / "file").write_text("x")
    remove_tree(tree)
    assert not tree.exists()


def test_a_name_that_the_removal_would_use_itself_may_be_taken(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b" / "c").mkdir(parents=True)
    for number in range(5):
        (tree / f".{number}.squib-removal" / "full").mkdir(parents=True)
    remove_tree(tree)
    assert not tree.exists()


def test_absent_and_plain_files_are_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    remove_tree(tmp_path / "link")
    assert (tmp_path / "file").exists()
    remove_tree(tmp_path / "file")
    assert not (tmp_path / "file").exists()


@pytest.mark.needs("root", "setpriv")
def test_an_owner_gets_through_directories_that_were_closed(shared_tmp: Path) -> None:
    source = Path(__file__).parents[2] / "src" / "squib" / "host" / "removal.py"
    program = shared_tmp / "removal.py"
    program.write_text(source.read_text() + "\nimport sys\nremove_tree(Path(sys.argv[1]))\n")
    tree = shared_tmp / "owned"
    tree.mkdir()
    os.chown(tree, 23456, 23456)
    as_owner = ["setpriv", "--reuid", "23456", "--regid", "23456", "--clear-groups", "--"]
    script = f"cd {tree} && mkdir -p top/a/b/c && touch top/a/b/f && chmod 0 top/a/b/c top/a/b top/a top"
    subprocess.run([*as_owner, "sh", "-c", script], check=True)
    shared_tmp.chmod(0o777)  # the tree's own name goes too
    subprocess.run([*as_owner, "/usr/bin/python3", str(program), str(tree)], check=True)
    assert not tree.exists()
