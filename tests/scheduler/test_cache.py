import asyncio
import dataclasses
import os
from pathlib import Path

import pytest

from squib.contracts.errors import RepositoryError
from squib.contracts.task import Repository
from squib.scheduler.repository.cache import RepositoryCache
from squib.scheduler.repository.git import Git
from tests.scheduler.gitserver import GitServer, commit, git, make_repository

pytestmark = pytest.mark.needs("git", "openssl")


@pytest.fixture
def origin(git_server: GitServer) -> Path:
    directory = git_server.root / "project"
    make_repository(directory, {"README": "hello\n"})
    return directory


@pytest.fixture
def cache(tmp_path: Path, hardened: Git) -> RepositoryCache:
    return RepositoryCache(tmp_path / "cache", hardened)


def url(server: GitServer) -> str:
    return f"{server.url}/project/.git"


async def test_the_head_of_the_remote_is_what_no_ref_means(
    git_server: GitServer, origin: Path, cache: RepositoryCache
) -> None:
    fetched = await cache.fetch(Repository(url=url(git_server)))
    assert fetched.commit == git(origin, "rev-parse", "HEAD")
    assert fetched.branch == "main"


async def test_a_branch_a_tag_and_a_commit_can_be_named(
    git_server: GitServer, origin: Path, cache: RepositoryCache
) -> None:
    first = git(origin, "rev-parse", "HEAD")
    git(origin, "tag", "-a", "v1", "-m", "one")
    second = commit(origin, {"README": "two\n"}, "second")
    git(origin, "branch", "other", first)
    by_branch = await cache.fetch(Repository(url=url(git_server), ref="other"))
    by_tag = await cache.fetch(Repository(url=url(git_server), ref="v1"))
    by_commit = await cache.fetch(Repository(url=url(git_server), ref=second))
    assert (by_branch.commit, by_branch.branch) == (first, "other")
    assert (by_tag.commit, by_tag.branch) == (first, None)
    assert (by_commit.commit, by_commit.branch) == (second, None)


async def test_what_moved_is_fetched_again_and_what_did_not_is_only_asked_for(
    git_server: GitServer, origin: Path, cache: RepositoryCache
) -> None:
    await cache.fetch(Repository(url=url(git_server), ref="main"))
    git_server.requests.clear()
    await cache.fetch(Repository(url=url(git_server), ref="main"))
    packs = [request for request in git_server.requests if request.endswith("/git-upload-pack")]
    assert len(packs) == 1  # protocol 2 lists refs by a POST; no second one that fetches
    moved = commit(origin, {"README": "moved\n"}, "moved")
    assert (await cache.fetch(Repository(url=url(git_server), ref="main"))).commit == moved


async def test_fetches_of_one_url_at_once_share_the_cache(
    git_server: GitServer, origin: Path, cache: RepositoryCache
) -> None:
    found = await asyncio.gather(*(cache.fetch(Repository(url=url(git_server))) for _ in range(4)))
    assert {fetched.commit for fetched in found} == {git(origin, "rev-parse", "HEAD")}


async def test_an_unknown_ref_and_an_unknown_repository_say_what_is_wrong(
    git_server: GitServer, origin: Path, cache: RepositoryCache
) -> None:
    with pytest.raises(RepositoryError, match="no branch or tag 'nowhere'"):
        await cache.fetch(Repository(url=url(git_server), ref="nowhere"))
    with pytest.raises(RepositoryError, match="no commit"):
        await cache.fetch(Repository(url=url(git_server), ref="0" * 39 + "1"))
    with pytest.raises(RepositoryError, match="not found"):
        await cache.fetch(Repository(url=f"{git_server.url}/absent/.git"))


async def test_redirects_are_refused(git_server: GitServer, origin: Path, cache: RepositoryCache) -> None:
    git_server.redirects["/moved"] = f"{git_server.url}/project"
    with pytest.raises(RepositoryError):
        await cache.fetch(Repository(url=f"{git_server.url}/moved/.git"))
    assert not any(request.startswith("/project") for request in git_server.requests)


async def test_a_server_that_nobody_vouches_for_is_refused(
    git_server: GitServer, origin: Path, tmp_path: Path
) -> None:
    cache = RepositoryCache(tmp_path / "strict", Git(seconds=30))
    with pytest.raises(RepositoryError, match="certificate"):
        await cache.fetch(Repository(url=url(git_server)))


async def test_a_url_with_a_password_is_refused_without_saying_it(cache: RepositoryCache) -> None:
    """Such a URL comes in no task; from a row of an older version it goes no further."""
    repository = Repository(url="https://localhost/")
    for address in ("https://user:hunter2@localhost/project", "https://[hunter2"):
        object.__setattr__(repository, "url", address)
        with pytest.raises(RepositoryError) as caught:
            await cache.fetch(repository)
        assert "hunter2" not in str(caught.value.problem())


async def test_only_https_is_spoken(tmp_path: Path, cache: RepositoryCache) -> None:
    make_repository(tmp_path / "local", {"README": "x"})
    for address in (f"file://{tmp_path}/local", f"ext::sh -c touch% {tmp_path}/ran", "ssh://localhost/x"):
        repository = Repository(url="https://localhost/")
        object.__setattr__(repository, "url", address)
        with pytest.raises(RepositoryError):
            await cache.fetch(repository)
    assert not (tmp_path / "ran").exists()


async def test_a_fetch_ends_at_the_bound_of_size(git_server: GitServer, origin: Path, tmp_path: Path) -> None:
    (origin / "noise").write_bytes(os.urandom(2_000_000))
    git(origin, "add", "-A")
    git(origin, "commit", "-q", "-m", "large")
    small = Git(ca_info=git_server.ca, seconds=30, max_file_bytes=1_000_000)
    with pytest.raises(RepositoryError):
        await RepositoryCache(tmp_path / "small", small).fetch(Repository(url=url(git_server)))


async def test_what_a_killed_fetch_left_does_not_hinder_the_next(
    git_server: GitServer, origin: Path, cache: RepositoryCache
) -> None:
    fetched = await cache.fetch(Repository(url=url(git_server)))
    (fetched.git_dir / "objects" / "pack" / "tmp_pack_abc").write_bytes(b"half")
    for lock in ("HEAD.lock", "packed-refs.lock", "refs/squib/HEAD.lock"):
        (fetched.git_dir / lock).parent.mkdir(parents=True, exist_ok=True)
        (fetched.git_dir / lock).touch()
    moved = commit(origin, {"README": "moved\n"}, "moved")
    assert (await cache.fetch(Repository(url=url(git_server)))).commit == moved
    assert not (fetched.git_dir / "objects" / "pack" / "tmp_pack_abc").exists()


async def test_git_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    impatient = dataclasses.replace(Git(), seconds=0.2)
    await impatient.init(tmp_path / "x.git")
    reader, writer = os.pipe()
    try:
        with pytest.raises(RepositoryError, match="took longer"):
            await impatient.run(tmp_path / "x.git", "index-pack", "--stdin", stdin=reader)
    finally:
        for fd in (reader, writer):
            os.close(fd)
