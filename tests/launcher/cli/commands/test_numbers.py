"""`launcher numbers`: the numbers that the queue reads from logs, and the names that it leaves out."""

from pathlib import Path

import pytest

from launcher.queue.home.paths import Attempt
from launcher.queue.workers.progress.attempt_progress import (
    read_attempt_progress,
    read_last_metrics,
)
from launcher.queue.workers.progress.reported_numbers import CHUNK_BYTES
from tests.launcher.conftest import Launcher
from tests.launcher.workers.progress.judged_logs import FOLDER


def test_numbers_have_their_line_and_rule(launcher: Launcher, tmp_path: Path) -> None:
    log = tmp_path / "fit.log"
    log.write_text("lr: 0.1\nepoch 1/2 loss=nan acc 0.91\n\nval_ppl: inf")
    (found,) = launcher.json("numbers", str(log))["files"]
    assert found == {
        "file": str(log),
        "numbers": {"val_ppl": "inf", "loss": "nan", "acc": 0.91},
        "progress": {"step": 1, "total": 2},
        "lines": {"val_ppl": 4, "loss": 2, "acc": 2},
        "rules": {"val_ppl": "pairs", "loss": "pairs", "acc": "pairs"},
        "left_out": {"lr": "a time, rate or learning rate"},
        "notes": [],
    }
    rows = launcher.well("numbers", str(log)).out.splitlines()
    assert rows[0] == f"{log}\tval_ppl\tinf\t4\tpairs"
    assert rows[-1] == f"{log}\tlr\t\t1\tleft out: a time, rate or learning rate"


def test_reported_lines_count_alone_and_words_are_said(launcher: Launcher, tmp_path: Path) -> None:
    log = tmp_path / "fit.log"
    log.write_bytes(
        b"launcher: step=1/4 loss=.5\nacc=0.1 tokens/s: 20\n" + b"x\n" * CHUNK_BYTES
        + b"launcher: acc=91% lat=12ms\nauc: 0.5 tokens/s: 30\n"
    )  # fmt: skip
    (found,) = launcher.json("numbers", str(log), "--numbers", "tokens/s,ghost")["files"]
    assert found["numbers"] == {"loss": 0.5, "acc": 91.0, "tokens/s": 30.0}
    assert found["lines"] == {"loss": 1, "acc": 3 + CHUNK_BYTES, "tokens/s": 4 + CHUNK_BYTES}
    assert [*found["left_out"]] == ["auc"]
    assert found["notes"] == [
        "lat was reported as a text: 12ms",
        "the log has no number 'ghost'",
    ]


@pytest.mark.parametrize(
    "name", ["mnist_basic", "trainer_glue_mrpc", "keras3_backspaces", "nan_inf"]
)
def test_command_prints_what_the_queue_reads(launcher: Launcher, tmp_path: Path, name: str) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_bytes((FOLDER / f"{name}.log").read_bytes())
    (found,) = launcher.json("numbers", str(attempt.log))["files"]
    stored = read_last_metrics(attempt)
    numbers = {key: value for key, value in stored.items() if isinstance(value, float)}
    assert {key: float(value) for key, value in found["numbers"].items()} == pytest.approx(
        numbers, nan_ok=True
    )
    step = read_attempt_progress(attempt).step
    assert step is not None
    assert found["progress"] == {"step": step.step, "total": step.total}


def test_file_that_cannot_be_read_is_named(launcher: Launcher, tmp_path: Path) -> None:
    folder = f"error: {tmp_path} is a folder. Name the log file of a program.\n"
    assert launcher.refused("numbers", str(tmp_path)) == folder
    assert "no file" in launcher.refused("numbers", str(tmp_path / "no.log"))
    empty = tmp_path / "empty.log"
    empty.touch()
    (found,) = launcher.json("numbers", str(empty))["files"]
    assert (found["numbers"], found["progress"]) == ({}, None)
