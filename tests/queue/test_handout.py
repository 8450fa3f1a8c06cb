"""Which ids wait and which are out."""

from squib.queue.handout import Handout


def test_in_order_and_once() -> None:
    ids = Handout()
    assert ids.put("a") and ids.put("b") and not ids.put("a")
    assert [ids.take(), ids.take(), ids.take()] == ["a", "b", None]


def test_refilling_passes_over_what_waits_or_is_out() -> None:
    ids = Handout()
    ids.put("a")
    assert ids.take() == "a"
    ids.put("b")
    ids.put("c")
    ids.look()
    assert ids.take() == "b" and not ids.done("a") and not ids.done("b")
    ids.refill(["a", "b", "c", "d"])
    assert [ids.take(), ids.take(), ids.take()] == ["c", "d", None]
    ids.look()
    ids.done("c")
    ids.refill([])
    ids.look()
    ids.refill(["c", "d"])
    assert [ids.take(), ids.take()] == ["c", None]


def test_put_while_out_waits_until_done() -> None:
    ids = Handout()
    ids.put("a")
    ids.take()
    assert not ids.put("a") and ids.take() is None
    assert ids.done("a") and ids.take() == "a"


def test_release_waits_again_and_only_what_was_out() -> None:
    ids = Handout()
    ids.put("a")
    ids.take()
    assert ids.release("a") and not ids.release("a") and not ids.release("b")
    assert [ids.take(), ids.take()] == ["a", None]
