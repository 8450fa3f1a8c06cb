import os
import subprocess

import pytest

from squib.cli import bundle, git
from squib.cli.exits import Refused
from tests.cli.conftest import Repo


def unpack(made: bundle.Bundle, where) -> Repo:
    subprocess.run(["git", "clone", "-q", "--bare", str(made.path), str(where)], check=True, capture_output=True)
    return Repo(where)


def test_a_clean_repository_is_its_head(repo, tmp_path):
    repo.git("branch", "private", "HEAD~1")
    before = repo.state()
    with bundle.made(repo.path) as made:
        assert (made.commit, made.base, made.branch, made.uncommitted) == (
            repo.git("rev-parse", "HEAD"),
            None,
            "main",
            0,
        )
        sent = unpack(made, tmp_path / "sent")
    assert repo.state() == before
    assert sent.git("log", "--format=%s", "--all") == "two\none"
    assert not made.path.exists()


def test_uncommitted_work_is_one_commit_on_top_and_nothing_of_the_users_changes(repo, tmp_path):
    (repo.path / "staged").write_text("s")
    repo.git("add", "staged")
    (repo.path / "a").write_text("changed\n")
    (repo.path / "b").unlink()
    (repo.path / 'odd "name"\n').write_text("u")
    (repo.path / "link").symlink_to("/etc/passwd")
    (repo.path / ".gitignore").write_text("secret\n")
    (repo.path / "secret").write_text("key")
    script = repo.path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    status, before = repo.git("status", "--porcelain"), repo.state()
    with bundle.made(repo.path) as made:
        assert made.base == repo.git("rev-parse", "HEAD")
        assert made.uncommitted == 7
        sent = unpack(made, tmp_path / "sent")
    assert repo.state() == before
    assert repo.git("status", "--porcelain") == status
    modes = {line.split("\t")[1]: line.split()[0] for line in sent.git("ls-tree", "-r", "squib-upload").splitlines()}
    assert modes == {
        ".gitignore": "100644",
        "a": "100644",
        "link": "120000",
        '"odd \\"name\\"\\n"': "100644",
        "script": "100755",
        "staged": "100644",
    }
    assert sent.git("cat-file", "-p", "squib-upload:link") == "/etc/passwd"
    assert sent.git("log", "--format=%s", "squib-upload") == "Uncommitted changes\ntwo\none"


def test_hooks_and_the_environment_do_not_take_part(repo, tmp_path, monkeypatch):
    for name in ("pre-commit", "post-index-change", "reference-transaction"):
        hook = repo.path / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        hook.chmod(0o755)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere"))
    (repo.path / "new").write_text("x")
    with bundle.made(repo.path) as made:
        assert made.uncommitted == 1
    assert not (tmp_path / "ran").exists()


def test_a_ref_is_sent_without_uncommitted_changes(repo):
    repo.git("tag", "v1", "HEAD~1")
    (repo.path / "a").write_text("changed\n")
    with bundle.made(repo.path, "v1") as made:
        assert (made.commit, made.base, made.branch) == (repo.git("rev-parse", "v1"), None, None)
    with bundle.made(repo.path, "main") as made:
        assert made.branch == "main"
    with pytest.raises(git.GitError, match="nope"), bundle.made(repo.path, "nope"):
        pass
    with pytest.raises(git.GitError), bundle.made(repo.path, "--all"):
        pass


def test_a_repository_without_a_commit_sends_its_files(tmp_path):
    path = tmp_path / "fresh"
    path.mkdir()
    fresh = Repo(path)
    fresh.git("init", "-q", "-b", "trunk")
    with pytest.raises(Refused, match="nothing"), bundle.made(path):
        pass
    (path / "a").write_text("1")
    with bundle.made(path) as made:
        assert (made.base, made.branch, made.uncommitted) == (None, "trunk", 1)


def test_repositories_within_are_left_out(repo, tmp_path):
    for name in ("with-commit", "without"):
        inner = Repo(repo.path / name)
        inner.path.mkdir()
        inner.git("init", "-q")
        (inner.path / "f").write_text("x")
    with bundle.made(repo.path) as made:
        assert made.uncommitted == 0


def test_a_shallow_repository_sends_its_files_under_a_stand_in(repo, tmp_path):
    shallow = Repo(tmp_path / "shallow")
    subprocess.run(
        ["git", "clone", "-q", "--depth=1", f"file://{repo.path}", str(shallow.path)], check=True, capture_output=True
    )
    with bundle.made(shallow.path) as made, bundle.made(shallow.path) as again:
        assert made.shallow
        assert made.commit == again.commit
        sent = unpack(made, tmp_path / "sent")
    assert sent.git("rev-parse", "squib-upload^{tree}") == repo.git("rev-parse", "HEAD^{tree}")
    assert repo.git("rev-parse", "HEAD") in sent.git("log", "--format=%B", "squib-upload")


def test_a_worktree_and_a_subdirectory_are_the_whole_repository(repo, tmp_path):
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "deep").mkdir()
    (tmp_path / "side" / "deep" / "new").write_text("x")
    with bundle.made(tmp_path / "side" / "deep") as made:
        assert (made.branch, made.uncommitted) == ("side", 1)
    assert [path.name for path in (tmp_path / "side" / "deep").iterdir()] == ["new"]


def test_what_is_no_repository_is_said_so(tmp_path):
    with pytest.raises(git.GitError, match="no git repository"), bundle.made(tmp_path):
        pass
    with pytest.raises(git.GitError, match="no directory"), bundle.made(tmp_path / "absent"):
        pass


def test_what_cannot_be_sent_whole_is_refused(repo, tmp_path):
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.commit("three", a="3\n")
    partial = tmp_path / "partial"
    repo.git("clone", "-q", "--filter=blob:none", f"file://{repo.path}", str(partial))
    with pytest.raises(Refused, match="partial clone"), bundle.made(partial):
        pass
    other = Repo(tmp_path / "sha256")
    other.path.mkdir()
    other.git("init", "-q", "--object-format=sha256")
    with pytest.raises(Refused, match="SHA-256"), bundle.made(other.path):
        pass


@pytest.mark.needs("root")
def test_another_users_repository_is_git_s_to_refuse(repo):
    os.chown(repo.path, 12345, 12345)
    os.chown(repo.path / ".git", 12345, 12345)
    with pytest.raises(git.GitError, match="ownership"), bundle.made(repo.path):
        pass
