"""Trainings of a number of steps, seen from a toy of one number; the real ones are tested in their rooms."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trueface.runtime import stepping, tensor_files
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext
from trueface.runtime.stepping import ResumeFile, RunFingerprint, StepTrainer, run_steps


class Number:
    """A part that a step changes."""

    value = 1.0

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


class Toy(StepTrainer):
    """Adds its step to a number; keeps the sum of its losses."""

    def __init__(self, *, spoilt_at: int = 0) -> None:
        super().__init__(10)
        self.number, self.sum, self.spoilt_at = Number(), 0.0, spoilt_at
        self.parts = {"number": self.number}
        self.writes = 0

    def take_step(self) -> Mapping[str, float]:
        self.number.value += self.step
        return {"loss": float("nan") if self.step + 1 == self.spoilt_at else self.number.value}

    def nonfinite_message(self, name: str, loss: float) -> str:
        return f"{name} {loss} at {self.step} of {self.total}"

    def record_losses(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        self.sum += losses["loss"]
        return {"sum": self.sum}

    def extra_state(self) -> dict[str, Any]:
        return {"sum": self.sum}

    def load_extra_state(self, numbers: Mapping[str, Any]) -> None:
        self.sum = numbers["sum"]

    def after_save(self) -> None:
        self.writes += 1


def stopping_after(at: int) -> RunContext:
    stop = threading.Event()

    def progress(*, step: int, total: int, **_: float) -> None:
        assert total == 10
        if step == at:
            stop.set()

    return RunContext(progress=progress, stop=stop)


def resume_file(folder: Path, *, every: int = 4, **conditions: int) -> ResumeFile:
    return ResumeFile(folder / "resume.pt", RunFingerprint("this", conditions), every)


def stopped_training(folder: Path, at: int, **conditions: int) -> ResumeFile:
    where = resume_file(folder, **conditions)
    with pytest.raises(JobError, match=f"stopped after {at} of 10 steps. The next attempt resumes"):
        run_steps(Toy(), stopping_after(at), where)
    return where


def test_stopped_training_resumes_with_its_parts_and_extra_state(tmp_path: Path) -> None:
    where = stopped_training(tmp_path, 7)
    steps = list[int]()
    again, whole = Toy(), Toy()
    run_steps(again, RunContext(progress=lambda step, **_: steps.append(step)), where)
    run_steps(whole, RunContext())
    assert steps == [8, 9, 10]
    assert (again.number.value, again.sum) == (whole.number.value, whole.sum)


def test_state_is_saved_periodically_but_not_at_the_end(tmp_path: Path) -> None:
    toy = Toy()
    run_steps(toy, RunContext(), resume_file(tmp_path))
    assert toy.writes == 2
    assert tensor_files.load(tmp_path / "resume.pt")["step"] == 8
    run_steps(toy := Toy(), RunContext(), resume_file(tmp_path / "timed", every=0))
    assert toy.writes == 0  # it takes no twenty seconds


def test_stop_without_state_path_leaves_no_files() -> None:
    with pytest.raises(JobError, match="stopped after 3 of 10 steps"):
        run_steps(Toy(), stopping_after(3))


def test_nonfinite_loss_ends_training_with_its_own_message() -> None:
    with pytest.raises(JobError, match=r"^loss nan at 6 of 10$"):
        run_steps(Toy(spoilt_at=6), RunContext())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"torn", "cannot be read"),
        (b"", "cannot be read"),
        ({"schema": 9, "fingerprint": "this"}, "not of schema 1"),
        (["this"], "not of schema 1"),
        ({"schema": 1, "fingerprint": "other"}, "of another training"),
        ({"step": 3}, "of another training"),
        ({"fingerprint": "this", "step": 3, "sum": 1.0}, "lacks number"),
    ],
)
def test_state_of_another_training_is_ignored_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: Any, reason: str
) -> None:
    where = resume_file(tmp_path)
    if isinstance(content, bytes):
        where.path.write_bytes(content)
    else:
        tensor_files.save(where.path, content)
    caplog.set_level(logging.INFO)
    run_steps(toy := Toy(), RunContext(), where)
    assert toy.number.value == 46
    assert f"reason={reason}" in caplog.text
    assert "so it starts from the beginning" in caplog.text


def test_state_of_earlier_versions_is_resumed(tmp_path: Path) -> None:
    # with no schema, conditions or seconds
    state = {"fingerprint": "this", "step": 9, "number": {"value": 5.0}, "sum": 1.0}
    tensor_files.save(tmp_path / "resume.pt", state)
    run_steps(toy := Toy(), RunContext(), resume_file(tmp_path))
    assert (toy.number.value, toy.sum) == (14, 15)


@pytest.mark.parametrize(
    ("threads", "says"), [(4, "resumes after step 3\n"), (2, "bit by bit: threads 2 instead of 4")]
)
def test_training_resumes_under_changed_conditions_and_logs_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, threads: int, says: str
) -> None:
    stopped_training(tmp_path, 3, threads=4)
    caplog.set_level(logging.INFO)
    run_steps(Toy(), RunContext(), resume_file(tmp_path, threads=threads))
    assert says in caplog.text


def test_fingerprint_is_independent_of_order() -> None:
    assert stepping.values_fingerprint({"a": 1, "b": 2}) == stepping.values_fingerprint(
        {"b": 2, "a": 1}
    )
    assert stepping.values_fingerprint([1, 2]) != stepping.values_fingerprint([2, 1])
