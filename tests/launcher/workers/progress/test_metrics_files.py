"""Files of numbers that a program writes itself."""

import json
import os
from pathlib import Path

import pytest

from launcher.workers.progress.metrics_files import newest_file, read_metrics_file

LIGHTNING = "epoch,step,train_loss,val_acc\n0,49,0.7,\n0,99,,0.5\n1,149,0.4,\n1,199,,0.75\n"
ULTRALYTICS = "                  epoch,      train/box_loss,        metrics/mAP50(B)\n                  1,             1.2,             0.5\n                  2,             1.1,             0.6\n"
TRAINER = {"epoch": 1.0, "log_history": [{"loss": 0.7, "step": 10}, {"eval_acc": 0.8, "step": 10}]}


def rows(tmp_path: Path, text: str, **options: int) -> list[tuple[int, dict[str, object]]]:
    file = tmp_path / "numbers"
    file.write_text(text)
    return [(row.step, {**row.metrics}) for row in read_metrics_file(file, **options)]


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (LIGHTNING, (199, {"epoch": 1.0, "val_acc": 0.75})),
        (ULTRALYTICS, (2, {"train/box_loss": 1.1, "metrics/mAP50(B)": 0.6})),
        (json.dumps(TRAINER, indent=2), (10, {"loss": 0.7, "eval_acc": 0.8})),
        ('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n', (2, {"loss": 1.0})),
        ("epoch;acc\n1;0.5\n", (1, {"acc": 0.5})),
        ("acc\tauc\n0.5\t0.6\n0.7\t0.8\n", (2, {"acc": 0.7, "auc": 0.8})),
        ('{"acc": 0.5}', (1, {"acc": 0.5})),
    ],
)
def test_rows_of_known_forms_are_read(
    tmp_path: Path, text: str, last: tuple[int, dict[str, object]]
) -> None:
    assert rows(tmp_path, text)[-1] == last


def test_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    assert rows(tmp_path, "step,acc\n1,0.5\n2,0.7") == [(1, {"acc": 0.5})]
    assert rows(tmp_path, '{"step": 1, "acc": 0.5}\n{"step": 2, "ac') == [(1, {"acc": 0.5})]


def test_header_may_change_and_short_rows_are_left_out(tmp_path: Path) -> None:
    text = "step,loss\n1,0.5\nstep,loss,acc\n2,0.4,0.9\n3,0.3\n"
    assert rows(tmp_path, text) == [(1, {"loss": 0.5}), (2, {"loss": 0.4, "acc": 0.9})]


def test_end_of_a_long_file_has_the_header_of_its_beginning(tmp_path: Path) -> None:
    text = "step,loss\n" + "".join(f"{n},{n / 10}\n" for n in range(1000))
    found = rows(tmp_path, text, most_bytes=100)
    assert found[-1] == (999, {"loss": 99.9})
    assert len(found) < 12


@pytest.mark.parametrize(
    "text", ["", "\n", "a,b\n", "\0\0\n", "[1, 2]", '{"a": ', "nan\n", "{" * 5000, "x" * 200_000]
)
def test_file_without_rows_gives_none(tmp_path: Path, text: str) -> None:
    assert rows(tmp_path, text) == []
    assert read_metrics_file(tmp_path) == []
    assert read_metrics_file(tmp_path / "absent") == []


def test_newest_file_of_a_pattern_counts_if_it_is_newer_than_the_job(tmp_path: Path) -> None:
    for version, at in enumerate((5, 30, 20)):
        folder = tmp_path / "lightning_logs" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(LIGHTNING)
        os.utime(folder / "metrics.csv", (at, at))
    pattern = tmp_path / "lightning_logs" / "*" / "metrics.csv"
    newest = tmp_path / "lightning_logs" / "version_1" / "metrics.csv"
    assert newest_file(pattern, 10.0) == newest
    assert newest_file(pattern, 31.0) is None
    assert newest_file(newest, 10.0) == newest
    assert newest_file(newest.parent, 0.0) is None
    assert newest_file(tmp_path / "absent", 0.0) is None
