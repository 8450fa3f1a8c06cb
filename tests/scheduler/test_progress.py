import json

from squib.contracts.task import TaskState, Usage
from squib.scheduler import progress as note
from squib.scheduler.progress import Ending, Progress, Restored


def test_a_note_comes_back_as_it_was_written() -> None:
    written = Progress(
        step="collect",
        turn=3,
        run_id="run-1",
        usage=Usage(input_tokens=5, cost_usd=0.5),
        restored=Restored("a save", ("processes",)),
        ending=Ending(TaskState.FAILED, {"error": {"code": "agent_failed"}}),
    )
    assert note.load(json.loads(json.dumps(note.dump(written)))) == written


def test_a_task_that_nobody_has_begun_starts_at_the_first_step() -> None:
    assert note.load({}).step == "provision"


def test_what_a_newer_scheduler_wrote_is_read_as_far_as_it_is_known() -> None:
    assert note.load({"step": "run", "of_the_future": 1}).step == "run"


def test_a_new_attempt_keeps_the_turn_and_forgets_the_sandbox() -> None:
    progress = Progress(step="run", turn=2, run_id="run-1", session_id="s", digest="d", saved_at=1.0, branch="main")
    progress.next_attempt()
    assert (progress.step, progress.turn, progress.saved_at, progress.branch) == ("provision", 2, 1.0, "main")
    assert (progress.run_id, progress.session_id, progress.digest) == (None, None, None)


def test_a_new_turn_keeps_the_session() -> None:
    progress = Progress(step="decide", turn=1, run_id="run-1", session_id="s", digest="d", tests_passed=False)
    progress.next_turn()
    assert (progress.step, progress.turn, progress.session_id, progress.digest) == ("run", 2, "s", "d")
    assert (progress.run_id, progress.tests_passed) == (None, None)
