from hypothesis import given
from hypothesis import strategies as st

from squib.contracts.task import MAX_PROMPT_CHARS
from squib.scheduler.progress import Restored
from squib.scheduler.prompt import restored_prompt

_RESTORED = Restored("the save of 3 seconds before (commit abc)", ("running processes", "files that git ignores"))


def test_a_first_sandbox_hears_the_prompt_alone() -> None:
    assert restored_prompt("Do it.", None, ["before"]) == "Do it."


def test_a_new_sandbox_hears_what_happened_and_what_is_lost_before_its_prompt() -> None:
    text = restored_prompt("Do it.", _RESTORED)
    assert text.endswith("\n\nDo it.")
    for words in (
        "was lost",
        "the save of 3 seconds before (commit abc)",
        "running processes; files that git ignores",
    ):
        assert words in text


def test_earlier_requests_are_told_in_order_the_latest_first_to_be_kept() -> None:
    earlier = ["one", "two", "x" * 5000, *(f"number {n} " + "y" * 1500 for n in range(5))]
    text = restored_prompt("Do it.", _RESTORED, earlier)
    assert "- one" not in text
    assert text.index("number 3") < text.index("number 4") < text.index("Do it.")
    assert len(text) < 10_000


@given(st.text(min_size=1, max_size=200), st.lists(st.text(max_size=3000), max_size=6), st.booleans())
def test_the_prompt_is_always_there_whole_and_never_too_long(prompt: str, earlier: list[str], long: bool) -> None:
    prompt = prompt * (MAX_PROMPT_CHARS // len(prompt)) if long else prompt
    text = restored_prompt(prompt, _RESTORED, earlier)
    assert text.endswith(prompt)
    assert len(text) <= MAX_PROMPT_CHARS
