"""Scripts: how they are read, and which step a conversation comes to."""

import json

import pytest

from squib.testing import script
from squib.testing.script import Conversation, Step

ALL = ["Bash", "Write"]


def said(*prompts, results=0, tools=ALL):
    return Conversation(list(prompts), results, list(tools), "/w")


def test_the_default_writes_and_runs_then_remembers():
    steps = [script.choose(script.DEFAULT, said("go", results=n)) for n in range(4)]
    assert [s.tool for s in steps] == ["Write", "Bash", None, None]
    assert steps[0].input["file_path"] == "/w/hello.py" and steps[3].text == "Done."
    follow = script.choose(script.DEFAULT, said("go", "more"))
    assert follow.text == "This is turn 2 of our conversation, which began with: go"


def test_directives_come_before_the_script():
    run = "please\nmodel:run=make test && echo {cwd}\nthen stop"
    assert script.choose(script.DEFAULT, said(run)).input["command"] == "make test && echo /w"
    assert script.choose(script.DEFAULT, said(run, results=1)).text == "I ran it."
    assert script.choose(script.DEFAULT, said("model:error=529")).error == 529
    assert script.choose(script.DEFAULT, said("model:slow=70", results=2)).slow_ms == 70


def test_tools_that_are_not_offered_are_not_called():
    assert script.choose(script.DEFAULT, said("go", tools=["Bash"])).text == "I have no tool Write."
    assert script.choose(script.DEFAULT, said("go", tools=[])).text == "A task"


def test_a_file_holds_steps_or_turns(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps([{"tool": "Bash", "input": {"command": "ls"}}, {"text": "{prompt}!"}]))
    turns = script.load(path)
    assert script.choose(turns, said("hi", "ho", results=1)).text == "ho!"
    path.write_text(json.dumps({"turns": [[{"text": "a"}], [{"error": 500}]]}))
    assert [turn[0] for turn in script.load(path)] == [Step(text="a"), Step(error=500)]


@pytest.mark.parametrize("bad", ["{}", "7", '{"turns": []}', '{"turns": [7]}', '[{"txt": "a"}]', "[{}]", "[", "[3]"])
def test_a_bad_file_is_told(tmp_path, bad):
    (tmp_path / "s.json").write_text(bad)
    with pytest.raises(ValueError, match=r".+"):
        script.load(tmp_path / "s.json")


def test_a_conversation_is_read_from_the_request():
    request = {
        "system": [{"type": "text", "text": "Env:\n - Primary working directory: /home/x/w\n"}],
        "tools": [{"name": "Bash"}],
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": [{"type": "tool_use"}]},
            {"role": "user", "content": [{"type": "tool_result"}, {"type": "text", "text": "<system-reminder>x"}]},
            {
                "role": "user",
                "content": [{"type": "text", "text": "<system-reminder>"}, {"type": "text", "text": "two"}],
            },
            {"role": "user", "content": [{"type": "tool_result"}, {"type": "tool_result"}]},
        ],
    }
    assert script.read(request) == Conversation(["one", "two"], 2, ["Bash"], "/home/x/w")
