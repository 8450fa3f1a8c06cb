import pytest

from squib.contracts.errors import (
    DriverUnavailable,
    HostFull,
    InvalidRequest,
    NoRepository,
    RepositoryError,
    SandboxLost,
)
from squib.scheduler import retry
from squib.scheduler.problems import AgentFailed, problem_of
from squib.scheduler.repository.git import GitFailed


@pytest.mark.parametrize("error", [SandboxLost("x"), DriverUnavailable("x"), HostFull("x"), KeyError("x")])
def test_squibs_own_trouble_is_worth_another_attempt(error: Exception) -> None:
    assert retry.worth_it(error)


@pytest.mark.parametrize(
    "error", [AgentFailed("x"), RepositoryError("x"), GitFailed("x"), InvalidRequest("x"), NoRepository("x")]
)
def test_what_a_person_must_mend_is_not(error: Exception) -> None:
    assert not retry.worth_it(error)


def test_waiting_for_room_costs_no_attempt() -> None:
    assert not retry.costs_attempt(HostFull("x"))
    assert retry.costs_attempt(SandboxLost("x"))


def test_a_driver_that_the_task_itself_names_is_not_asked_for_again() -> None:
    assert not retry.worth_it(DriverUnavailable("x"), named=True)
    assert retry.worth_it(SandboxLost("x"), named=True)


def test_pauses_grow_to_a_bound() -> None:
    pauses = [retry.backoff(attempt) for attempt in range(1, 100)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 1
    assert pauses[-1] == 60


def test_an_unforeseen_error_shows_nothing_of_what_it_holds() -> None:
    document = problem_of(ValueError("token sk-123"))
    assert "sk-123" not in str(document)
    assert (document["code"], document["status"]) == ("internal", 500)
