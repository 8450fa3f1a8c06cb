"""`/git/*`: the workspace's repository. One request at a time: they share an index and a work tree."""

import json
import os
from typing import TYPE_CHECKING

from squib.contracts import codec
from squib.contracts.errors import InvalidRequest, RepositoryError
from squib.contracts.event import EventType
from squib.contracts.guest import BUNDLE, EMPTY_TREE, GIT_HEADER, WORK_REF, CommitRequest, GitState, PushRequest
from squib.guest import clone as cloning
from squib.guest import git as repository
from squib.guest.exchange import Exchange

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

_MAX_HAVE = 10_000


async def clone(guest: "Supervisor", exchange: Exchange) -> None:
    """`POST /git/clone`."""
    query = exchange.query
    commit = cloning.check_commit("commit", query.get("commit", ""))
    reset = cloning.check_commit("reset", query["reset"]) if "reset" in query else None
    fd, path = cloning.temporary(guest)
    try:
        async for data in exchange.body():
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        async with guest.git_lock:
            if not await cloning.is_there(guest, commit, reset):
                await cloning.clone(guest, path, commit, reset, query.get("branch"))
                guest.events.record(EventType.GIT_CLONED, {"commit": reset or commit, "branch": query.get("branch")})
            state = (await repository.snapshot(guest)).state
    finally:
        os.close(fd)
        os.unlink(path)  # noqa: PTH108
    exchange.answer(state)


async def commit(guest: "Supervisor", exchange: Exchange) -> None:
    """`POST /git/commit`."""
    request = await exchange.document(CommitRequest)
    for name in ("message", "author_name", "author_email"):
        if not getattr(request, name).strip() or "\0" in getattr(request, name):
            raise InvalidRequest(f"{name}: must not be empty", fields={name: "must not be empty, nor hold a NUL"})
    async with guest.git_lock:
        before = await repository.head(guest) if repository.has_repository(guest) else None
        await repository.commit_all(guest, request.message, request.author_name, request.author_email)
        state = (await repository.snapshot(guest)).state
        if state.head is not None and state.head != before and guest.runs.active_id is None:
            subject = request.message.strip().splitlines()[0][:1000]
            guest.events.record(EventType.GIT_COMMIT, {"commit": state.head, "subject": subject})
    exchange.answer(state)


async def push(guest: "Supervisor", exchange: Exchange) -> None:
    """`POST /git/push`: the bundle is made whole before the answer begins, so that a failure can be told."""
    request = await exchange.document(PushRequest)
    if len(request.have) > _MAX_HAVE:
        raise InvalidRequest("have: too many", fields={"have": f"must be at most {_MAX_HAVE}"})
    have = [cloning.check_commit("have", each) for each in request.have]
    fd, path = cloning.temporary(guest)
    os.unlink(path)  # noqa: PTH108 - the descriptor is enough, and nothing is left
    try:
        async with guest.git_lock:
            state = (await repository.snapshot(guest)).state
            new = request.unless != state.digest and await _bundle(guest, state, have, fd)
        header = [(GIT_HEADER, json.dumps(codec.encode(state)))]  # a header is ASCII, a branch's name may be more
        if not new:
            exchange.reply(204, headers=header)
            return
        await exchange.send_file(fd, BUNDLE, header)
    finally:
        os.close(fd)


async def _bundle(guest: "Supervisor", state: GitState, have: list[str], fd: int) -> bool:
    """Write the bundle to `fd`; False where there is nothing that the host lacks."""
    tips = ["--branches", *([WORK_REF] if state.work else [])]
    if state.head is not None and state.branch is None:
        tips.append(repository.HEAD_REF)
    if state.head is None and not state.work:
        return False
    await repository.keep(guest, state)
    known = [f"^{each}" for each in await repository.existing(guest, have)]
    made = await repository.git(guest, "bundle", "create", "--quiet", "-", *tips, *known, stdout=fd, check=False)
    if made.code == 0:
        return True
    if "empty bundle" in made.err:
        return False
    raise RepositoryError(f"git bundle: {made.err.strip()[-500:]}")


async def diff(guest: "Supervisor", exchange: Exchange) -> None:
    """`GET /git/diff`: against `base`, a commit or EMPTY_TREE; where absent against HEAD."""
    base = exchange.query.get("base")
    if base is not None:
        cloning.check_commit("base", base)
    async with guest.git_lock:
        found = await repository.snapshot(guest)
    against = base or found.state.head or (await repository.git(guest, "mktree")).text
    if base not in (None, EMPTY_TREE) and not await repository.existing(guest, [base]):
        raise RepositoryError(f"the workspace's repository does not hold {base}", fields={"base": "is unknown"})
    fd, path = cloning.temporary(guest)
    os.unlink(path)  # noqa: PTH108
    try:
        await repository.git(
            guest, "diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", against, found.tree, stdout=fd
        )
        await exchange.send_file(fd, "text/x-diff")
    finally:
        os.close(fd)
