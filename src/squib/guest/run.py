"""One run: an agent's process from its start to its outcome, and the events that tell of it."""

import asyncio
import dataclasses
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from squib.agents.base import Agent, Command, Outcome, Turn
from squib.contracts.event import EventType
from squib.contracts.guest import RunRequest, RunState, RunStatus
from squib.guest import command, environment, tree
from squib.guest.confine import Root
from squib.guest.files import replace_file
from squib.guest.headwatch import HeadWatch
from squib.guest.transcript import Transcript

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

log = logging.getLogger("squib.guest")
_GRACE_SECONDS = 1.0  # at the end of a run, for what it left behind
_STOP_GRACE_SECONDS = 2.0  # from SIGTERM to SIGKILL, when its time is up
_COLLECT_SECONDS = 0.5  # for the output of a run that was stopped


class Run:
    """One turn of an agent. `status` is always the present one."""

    def __init__(self, guest: "Supervisor", request: RunRequest, agent: Agent):
        self._guest, self.request, self._agent = guest, request, agent
        self._stop: tuple[RunState, float] | None = None  # how it shall end, and how long after SIGTERM
        self._transcript: Transcript | None = None
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self.status = RunStatus(
            run_id=request.run_id,
            agent=request.agent,
            state=RunState.RUNNING,
            session_id=request.session_id,
            started_at=time.time(),
            epoch=guest.events.epoch,
        )

    @property
    def active(self) -> bool:
        """Whether its outcome is still open."""
        return not self._over.is_set()

    def start(self) -> None:
        """Start the agent's process and watch it in a task of the guest's group.

        An agent that cannot be started is an outcome: the status says so. Raises InvalidRequest for the request's
        own faults.
        """
        turn = self._turn()
        try:
            plan = self._agent.command(turn)
            env = environment.build(self._guest.config, self._origin, plan.env, self.request.env)
            self._transcript, process = self._spawn(plan, env)
        except OSError as error:
            advice = f" {self._agent.install}" if isinstance(error, FileNotFoundError) else ""
            reason = f"{self._agent.name} cannot be started: {error.strerror or error}.{advice}"
            self._close(RunState.FAILED, reason, None, Outcome(good=False))
            return
        self.status = dataclasses.replace(self.status, pid=process.child.pid)
        self._guest.events.record(
            EventType.AGENT_STARTED,
            {
                "agent": self.request.agent,
                "run_id": self.request.run_id,
                "pid": process.child.pid,
                "model": self.request.model,
                "session_id": self.request.session_id,
                "argv": plan.argv,
            },
        )
        self._guest.group.create_task(self._watch(plan, process, self._transcript))

    @property
    def _detail(self) -> str:
        return "" if self._transcript is None else self._transcript.stderr_tail[-2000:]

    @property
    def _origin(self) -> str:
        return f"run-{self.request.run_id}"

    def _turn(self) -> Turn:
        config = self._guest.config
        own = {"guest": str(self._guest.places.program), "python": sys.executable}
        return Turn(
            prompt=self.request.prompt,
            workspace=config.workspace,
            home=config.home,
            model=self.request.model,
            session_id=self.request.session_id,
            gateway_url=self._guest.relay.url,
            options={**config.agents.get(self.request.agent, {}), **own},
        )

    def _spawn(self, plan: Command, env: dict[str, str]) -> tuple[Transcript, command.Command]:
        _write_files(self._guest.config.home, plan.files)
        transcript = Transcript(
            self._guest.events,
            self._agent.parser(),
            self._guest.config.run_output_bytes,
            overflow=lambda: self._end(RunState.FAILED, _GRACE_SECONDS),
        )
        process = command.Command(
            self._guest.children,
            plan.argv,
            env=env,
            cwd=self._guest.workspace.fd,
            stdin=plan.stdin,
            stdout=transcript.stdout,
            stderr=transcript.stderr,
        )
        process.tree.owns_unmarked_orphans = True
        transcript.process = process
        return transcript, process

    # --- the end ---

    async def stop(self, state: RunState, grace_seconds: float) -> None:
        """End the run as `state`, unless it is over; returns when its tree has ended."""
        if self.active:
            self._end(state, grace_seconds)
        await self._over.wait()

    def _end(self, state: RunState, grace_seconds: float) -> None:
        if self._stop is None:
            self._stop = (state, grace_seconds)
            self._stopped.set_result(None)

    async def _watch(self, plan: Command, process: command.Command, transcript: Transcript) -> None:
        try:
            head = HeadWatch(self._guest)
            async with process, asyncio.TaskGroup() as group:
                watching = group.create_task(head.run())
                code = await self._attend(plan, process, transcript.finished)
                watching.cancel()
            await head.look()
            transcript.finish()
            self._conclude(code, transcript.parser.finish(code, transcript.stderr_tail))
        except Exception:
            log.exception("run %s failed", self.request.run_id)
            self._close(RunState.FAILED, "the guest failed while it watched the agent", None, Outcome(good=False))
        finally:
            self._over.set()

    async def _attend(self, plan: Command, process: command.Command, finished: "asyncio.Future[None]") -> int | None:
        """Until the process and its tree have ended: by themselves, after their last word, or by force.

        Gives the exit code; None where it had said its last word, lived on, and had to be ended for that.
        """
        exited, silent = process.child.status, process.pumps[0].ended
        began = time.monotonic()
        await _first(exited, self._stopped, finished, silent, seconds=self.request.seconds)
        if finished.done() or silent.done():
            left = self.request.seconds - (time.monotonic() - began)
            await _first(exited, self._stopped, seconds=min(plan.grace_after_result, max(left, 0.0)))
        elif not exited.done():
            self._end(RunState.TIMED_OUT, _STOP_GRACE_SECONDS)
        lingered = not exited.done() and self._stop is None
        if exited.done():
            await self._collect(process)
        await tree.end(process.tree, _GRACE_SECONDS if self._stop is None else self._stop[1])
        await _first(exited, seconds=_GRACE_SECONDS)
        await self._collect(process)
        if lingered or not exited.done():
            return None
        return exited.result()

    async def _collect(self, process: command.Command) -> None:
        """Take what the process wrote, at the pace of the events' readers; once stopped, only for a moment."""
        collecting = asyncio.ensure_future(process.collect())
        try:
            await _first(collecting, self._stopped)
            await _first(collecting, seconds=_COLLECT_SECONDS)
        finally:
            collecting.cancel()
            await asyncio.wait({collecting})

    def _conclude(self, code: int | None, outcome: Outcome) -> None:
        state = RunState.SUCCEEDED if outcome.good else RunState.FAILED
        reason = outcome.reason
        if self._stop is not None:
            state = self._stop[0]
            reason = {
                RunState.CANCELLED: "the run was cancelled",
                RunState.TIMED_OUT: f"the run took longer than its {self.request.seconds} s",
                RunState.FAILED: f"the agent wrote more than {self._guest.config.run_output_bytes} bytes",
            }[state]
        self._close(state, reason, code, outcome)

    def _close(self, state: RunState, reason: str | None, code: int | None, outcome: Outcome) -> None:
        finished = time.time()
        if state is RunState.SUCCEEDED:
            kind, data = (
                EventType.AGENT_COMPLETED,
                {
                    "result": outcome.result,
                    "session_id": outcome.session_id,
                    "turns": outcome.turns,
                    "duration_ms": round((finished - self.status.started_at) * 1000),
                },
            )
        else:
            kind, data = EventType.AGENT_FAILED, {"reason": reason, "exit_code": code, "detail": self._detail}
        number = self._guest.events.record(kind, data)
        used: dict[str, Any] = {
            name: getattr(outcome, name)
            for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd")
        }
        self.status = dataclasses.replace(
            self.status,
            state=state,
            exit_code=code,
            reason=reason,
            result=outcome.result,
            session_id=outcome.session_id or self.status.session_id,
            finished_at=finished,
            last_event=number,
            **used,
        )
        self._over.set()


async def _first(*futures: "asyncio.Future[Any]", seconds: float | None = None) -> None:
    await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


def _write_files(home: str, files: dict[str, str]) -> None:
    """Write the agent's own settings below its home, by way of new files: what lies there already may be a link."""
    if not files:
        return
    root = Root(home)
    try:
        for path, content in files.items():
            with root.parent(path, make=True) as (directory, name):
                replace_file(directory, name, content.encode(), 0o600)
    finally:
        root.close()
