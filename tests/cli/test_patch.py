from squib.cli import patch


def test_changes_are_counted_as_git_counts_them(repo):
    (repo.path / "a").write_text("2\n3\n-- not a header\n")
    (repo.path / "b").unlink()
    (repo.path / "pic").write_bytes(b"\x00\x01" * 50)
    (repo.path / "with space").write_text("no newline")
    repo.git("add", "--all")
    text = repo.git("diff", "--cached", "--binary").encode() + b"\n"
    numbers = [line.split("\t") for line in repo.git("diff", "--cached", "--numstat").splitlines()]
    expected = {name: (added, removed) for added, removed, name in numbers}
    found = {c.path: ("-", "-") if c.binary else (str(c.added), str(c.removed)) for c in patch.changes(text)}
    assert found == expected


def test_a_line_of_a_file_that_looks_like_a_header_is_text():
    text = (
        b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n-diff --git a/y b/y\n+@@ -1 +1 @@\n same\n"
        b"\\ No newline at end of file\n"
    )
    assert patch.changes(text) == [patch.Change("x", 1, 1)]


def test_a_stat_of_nothing_and_of_something():
    assert patch.stat(b"") == ["no change"]
    assert patch.stat(b"diff --git a/x b/x\n@@ -0,0 +1 @@\n+a\n")[-1] == "1 file changed, 1 insertions, 0 deletions"


def test_the_terminal_gets_no_escapes_of_the_patch():
    assert "\x1b" not in patch.coloured(b"+\x1b]0;title\x07\n")


def test_the_terminal_is_spared_the_bytes_of_binary_files():
    text = b"diff --git a/p b/p\nGIT binary patch\nliteral 3\nKcmZQzWM=>X\n\ndiff --git a/x b/x\n@@ -0,0 +1 @@\n+a"
    assert patch.coloured(text).split("\n") == [
        "diff --git a/p b/p",
        "GIT binary patch",
        "diff --git a/x b/x",
        "@@ -0,0 +1 @@",
        "+a",
    ]
