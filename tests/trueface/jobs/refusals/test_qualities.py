"""What is refused of a training in several qualities, and of a test in one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.trueface.jobs.test_kinds import a_draft
from trueface.jobs.kinds import TEST, TRAIN

NAME = "gan2:pre"


def refusals(*, gpus: int = 0, **settings: Any) -> str:
    draft = a_draft(TRAIN, {"model": "slim18", **settings}, model=NAME, data=NAME, gpus=gpus)
    return "\n".join(TRAIN.refusals(draft, ()))


def test_a_training_in_qualities_is_not_refused() -> None:
    assert refusals(qualities="raw, jpeg75, half+jpeg30", collab=0.05) == ""
    assert refusals(qualities="raw", freeze=True) == ""
    assert refusals(qualities="raw, jpeg75", processes=2) == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"collab": 0.1, "qualities": ""}, "collab: 0.1 needs two qualities at least"),
        ({"collab": 0.1, "qualities": "jpeg75"}, "collab: 0.1 needs two qualities at least"),
        ({"collab": 0.1, "quality_batch": "mixed"}, "collab needs quality_batch: paired"),
        ({"collab": 0.1, "batch_size": 3}, "set batch_size: 4 at least"),
        ({"collab": 0.1, "freeze": True}, "no weight of the layers would move"),
        ({"collab": 0.1, "compile": True}, "leave compile out"),
        ({"collab": 0.1, "fair": "mix"}, "would be mixed with another image"),
        ({"collab": 0.1, "processes": 2}, "within a whole batch"),
        ({"dropout": 0.1, "processes": 2}, "would draw other masks"),
        ({"decode": "scaled"}, "leave decode out"),
        ({"solver": "ridge"}, "fitted in closed form"),
        ({"qualities": "raw, files:c23"}, "files:c23 needs quality_list"),
        ({"quality_list": "data.json"}, "quality_list: data.json is not used"),
    ],
)
def test_what_does_not_go_with_qualities_is_refused_while_it_is_planned(
    settings: dict[str, Any], message: str
) -> None:
    assert message in refusals(**{"qualities": "raw, jpeg75", **settings})


def test_a_program_that_is_not_installed_is_refused_for_trainings_and_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    assert "needs the program ffmpeg" in refusals(qualities="raw, c40")
    (reason,) = TEST.refusals(a_draft(TEST, {"corrupt": "half+c23"}, model=NAME), ())
    assert reason.startswith("half+h264-23: h264 needs the program ffmpeg")


def test_a_list_of_files_is_an_input_and_read_while_it_is_planned(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    given: dict[str, Any] = {"qualities": "raw, c23, mine", "quality_list": str(path)}
    draft = a_draft(TRAIN, {"model": "slim18", **given}, model=NAME, data=NAME)
    assert path in [each.path for each in TRAIN.inputs(draft)]
    assert refusals(**given) == ""  # that it is missing is said with the other inputs
    path.write_text(json.dumps({"train": {"raw": ["1.png"], "c23": ["2.png"]}}))
    assert "pair 1 of train is not of one item" in refusals(**given)
    path.write_text(json.dumps({"train": {"raw": ["1.png"], "c23": ["1.jpg"]}}))
    assert "mine is neither a corruption nor a list" in refusals(**given)
