"""The tree of errors: drawn as it is, each with a code of its own, and the same after the wire."""

import re

import pytest

from squib.contracts import errors


def tree(kind: type[errors.SquibError]) -> list[type[errors.SquibError]]:
    """The contracts' own kinds: other rooms derive more, which never cross the wire as themselves."""
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [kind, *(grandchild for child in children for grandchild in tree(child))]


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    drawn = re.findall(r"^[ │├└─]*(\w+)\s+(\d{3})\s+(\w+)", errors.__doc__ or "", re.MULTILINE)
    assert drawn == [(kind.__name__, str(kind.status), kind.code) for kind in tree(errors.SquibError)]


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in tree(errors.SquibError)]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", tree(errors.SquibError))
def test_an_error_survives_the_wire(kind: type[errors.SquibError]) -> None:
    sent = kind("what happened", fields={"prompt": "is empty"})
    got = errors.from_problem(sent.problem())
    assert type(got) is kind
    assert (got.detail, got.advice, got.fields) == (sent.detail, sent.advice, sent.fields)
    assert got.advice


def test_a_kind_derived_elsewhere_does_not_take_its_parents_code() -> None:
    class Derived(errors.RepositoryError):
        """Of some other room."""

    assert type(errors.from_problem(Derived("what happened").problem())) is errors.RepositoryError


def test_an_unknown_problem_is_still_an_error() -> None:
    assert type(errors.from_problem({"title": "teapot"})) is errors.SquibError
