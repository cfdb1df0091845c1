"""Files of numbers that a program writes itself."""

import json
import os
import socket
from pathlib import Path

import pytest

from launcher.queue.workers.progress.metrics_files import (
    MOST_JSON_BYTES,
    FileReading,
    is_result,
    read_metrics_file,
)

LIGHTNING = "epoch,step,train_loss,val_acc\n0,49,0.7,\n0,99,,0.5\n1,149,0.4,\n1,199,,0.75\n"
ULTRALYTICS = "                  epoch,      train/box_loss,        metrics/mAP50(B)\n                  1,             1.2,             0.5\n                  2,             1.1,             0.6\n"
TRAINER = {"epoch": 1.0, "log_history": [{"loss": 0.7, "step": 10}, {"eval_acc": 0.8, "step": 10}]}
RECORDS = [{"epoch": 1, "acc": 0.5}, {"epoch": 2, "acc": 0.75}]
KERAS = {"loss": [0.5, 0.4], "val_acc": [0.6, 0.7]}
WANDB = {
    "_step": 7,
    "_runtime": 12.5,
    "_timestamp": 1.7e9,
    "_wandb": {"runtime": 12},
    "acc": 0.5,
    "img": {"_type": "image-file", "size": 3, "width": 4, "sha256": "12"},
}
Row = tuple[int, dict[str, object]]


def read(
    tmp_path: Path, text: str | bytes, *, ended: bool = True, most_bytes: int = 1 << 20
) -> FileReading:
    file = tmp_path / "numbers"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_metrics_file(file, most_bytes, is_complete=ended)


def rows(reading: FileReading) -> list[Row]:
    return [(row.step, {**row.metrics}) for row in reading.rows]


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
        ("epoch,acc\n1,0.5\n2,0.75", (2, {"acc": 0.75})),  # no end of the last line
        ('{"epoch": 1, "acc": 0.5}\n{"epoch": 2, "acc": 0.75}', (2, {"acc": 0.75})),
        ("epoch acc\n1 0.5\n2 0.75 best yet\n", (2, {"acc": 0.75})),  # more texts than names
        ("epoch,acc,\n1,0.5,\n2,0.75,\n", (2, {"acc": 0.75})),
        (json.dumps(RECORDS), (2, {"acc": 0.75})),
        (json.dumps(RECORDS, indent=1), (2, {"acc": 0.75})),
        (json.dumps(KERAS), (2, {"loss": 0.4, "val_acc": 0.7})),
        (json.dumps({"history": KERAS, "epoch": [0, 1]}), (2, {"loss": 0.4, "val_acc": 0.7})),
        ('{"loss": {"0": 0.5, "1": 0.4}}', (2, {"loss": 0.4})),  # a table of pandas
        (json.dumps(WANDB), (7, {"acc": 0.5})),
        ("epoch,acc\r1,0.5\r2,0.75\r", (2, {"acc": 0.75})),
        ("epoch,acc\r\n1,0.5\r\n", (1, {"acc": 0.5})),
        ("\ufeffepoch,acc\n1,0.5\n", (1, {"acc": 0.5})),
        ("epoch,acc\n1,0.5\n".encode("utf-16"), (1, {"acc": 0.5})),
        ("epoch,acc\n1,0.5\n".encode("utf-16-le"), (1, {"acc": 0.5})),
        ("epoch   acc\n1  0.5\n2  0.75\n", (2, {"acc": 0.75})),  # blanks between columns
        ("val acc\n0.5\n", (1, {"val acc": 0.5})),
        ("epoch,acc\n1,91%\n", (1, {"acc": 91.0})),
        ("it,acc\n3,0.5\n", (3, {"acc": 0.5})),
        ("Epoch,acc\n3,0.5\n", (3, {"acc": 0.5})),
        ("# made by fit.py\nepoch,acc\n1,0.5\n", (1, {"acc": 0.5})),
        ("# epoch acc\n1 0.5\n", (1, {"acc": 0.5})),
        ("Run 7\nepoch,acc\n1,0.5\n", (1, {"acc": 0.5})),
        (",epoch,acc\n0,1,0.5\n", (1, {"acc": 0.5})),
        ("phase,acc\nwarm,n/a\nval,0.5\n", (2, {"acc": 0.5})),
        ("epoch,acc,net\n1,0.5,small\n2,nan,small\n", (1, {"acc": 0.5})),
        ("epoch,acc,epoch\n1,0.5,1\n", (1, {"acc": 0.5})),
        ("epoch,saved,acc\n1,yes,0.5\n2,no,0.6\n3,yes,0.7\n", (3, {"acc": 0.7})),
        ("step,phase,acc\n1,warmup,0.5\n2,main,0.6\n", (2, {"acc": 0.6})),
        ("date,acc\nMay 1,0.5\nMay 2,0.6\n", (2, {"acc": 0.6})),
        (
            '{"epoch": 1, "mode": "train", "loss": 0.5}\n{"epoch": 1, "mode": "val", "acc": 0.9}\n',
            (1, {"loss": 0.5, "acc": 0.9}),
        ),
    ],
)
def test_rows_of_known_forms_are_read(tmp_path: Path, text: str | bytes, last: Row) -> None:
    reading = read(tmp_path, text)
    found = [row for row in rows(reading) if all(value == value for value in row[1].values())]
    assert (found[-1], reading.faults) == (last, ())


@pytest.mark.parametrize(
    ("text", "numbers", "fault"),
    [
        ("", {}, "is empty"),
        ("hello\n", {}, "contains no numbers"),
        ("a,b\nx,y\n", {}, "contains no numbers"),
        ("[1, 2]", {}, "contains no numbers"),
        ("1,0.5\n2,0.75\n", {}, "has no header: its first line contains numbers. Write the names of the columns into it"),
        ("1700 0.9 1\n", {}, "has no header: its first line contains numbers. Write the names of the columns into it"),
        ("epoch;acc\n1;0,5\n2;0,75\n", {}, "has decimal commas in acc: '0,75'. Write points"),
        ("acc;auc\n0,5;0,6\n", {}, "has decimal commas in acc, auc: '0,5'. Write points"),
        ("epoch,acc\n1,0,5\n", {}, "has rows with more cells than its header, such as '1,0,5'. If they are decimal commas, write points"),
        # an attempt that was killed while it wrote 0.75, and the row of the next one
        ("epoch,acc\n1,0.5\n2,0.73,0.9\n", {"acc": 0.5}, "has rows with more cells than its header, such as '2,0.73,0.9'. Name each column, and begin a new line for each row"),
        ("epoch,acc\n1,0.5\n2,0.73,0.9\n4,0.8\n", {"acc": 0.8}, "has rows with more cells than its header, such as '2,0.73,0.9'. Name each column, and begin a new line for each row"),
        ("acc loss\n1 0.5 0.3\n", {}, "has rows with more cells than its header, such as '1,0.5,0.3'. Name each column, and begin a new line for each row"),
        ("epoch,acc\n1,12ms\n", {}, "has a text instead of a number in acc: '12ms'"),
        ("epoch,acc,f1\n1,0.5,1\n2,lost,2\n", {"f1": 2.0}, "has a text instead of a number in acc: 'lost'"),
        ('{"acc": "0.5", "f1": 1}', {"f1": 1.0}, "has a text instead of a number in acc: '0.5'"),
        ("epoch,acc\n1,0.5\n2\n", {"acc": 0.5}, "has fewer cells in its last row than in its header"),
        ("epoch,acc\n1,0.5\n2,0.75\nmean,0.625\n", {"acc": 0.75}, "has rows without a step, such as 'mean', which are left out"),
        ("epoch,acc,f1,acc\n1,0.5,0.4,0.6\n", {"f1": 0.4}, "has several columns with the name acc"),
        # the last number is that of one fold, of the training, of one metric
        ("fold,acc\n1,0.9\n2,0.8\n", {"fold": 2.0}, "has rows of fold=1 and fold=2 in acc. Write a column for each"),
        ("epoch,split,acc\n1,val,0.9\n1,train,0.8\n", {}, "has rows of split=val and split=train in acc. Write a column for each"),
        ('{"step": 1, "mode": "train", "acc": 0.5}\n{"step": 2, "mode": "val", "acc": 0.6}\n', {}, "has rows of mode=train and mode=val in acc. Write a column for each"),
        ("epoch,metric,value\n1,acc,0.9\n1,loss,0.2\n", {}, "has rows of metric=acc and metric=loss in value. Write a column for each"),
        ('{"step": 1, "on": "a", "acc": 0.5}\n{"step": 1, "on": "b", "acc": 0.6, "f1": 1}\n', {"f1": 1.0}, "has rows of on=a and on=b in acc. Write a column for each"),
        ('{"a": ', {}, "is not valid JSON"),
        ('{"acc": 1}\n{"acc": ', {"acc": 1.0}, "ends with a line that is not valid JSON"),
        ("[" + "1, " * 9 + "\n", {}, "is not valid JSON"),
        (b"PAR1\x15\x04", {}, "is a Parquet file. Write CSV, JSON lines or JSON"),
        (b"\x80\x04\x95\x05", {}, "is a pickle. Write CSV, JSON lines or JSON"),
        (bytes(range(256)), {}, "is not a text file. Write CSV, JSON lines or JSON"),
    ],
)  # fmt: skip
def test_each_fault_of_a_file_is_named(
    tmp_path: Path, text: str | bytes, numbers: dict[str, float], fault: str
) -> None:
    reading = read(tmp_path, text)
    last = {name: value for row in reading.rows for name, value in row.metrics.items()}
    assert (last, reading.faults) == (numbers, (fault,))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    assert read_metrics_file(tmp_path).faults == ("is a folder. Name the file in it",)
    absent = read_metrics_file(tmp_path / "absent")
    assert absent.faults == ("cannot be read: No such file or directory",)
    os.mkfifo(tmp_path / "pipe")
    assert read_metrics_file(tmp_path / "pipe").faults == ("is not a regular file",)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert read_metrics_file(tmp_path / "socket").faults[0].startswith("cannot be read: ")
    large = tmp_path / "large.json"
    large.write_text("[\n")
    os.truncate(large, MOST_JSON_BYTES + 1)
    why = "has more than 16 MiB of JSON. Write JSON lines or CSV"
    assert read_metrics_file(large, is_complete=True).faults == (why,)


@pytest.mark.parametrize(
    "text", ["\n", "a,b\n", "\0\0\n", "nan\n", "{" * 5000, "x" * 200_000, "\n".join(["a"] * 99)]
)
def test_file_without_rows_gives_none(tmp_path: Path, text: str) -> None:
    for ended in (True, False):
        assert rows(read(tmp_path, text, ended=ended)) == []


def test_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    assert rows(read(tmp_path, "step,acc\n1,0.5\n2,0.7", ended=False)) == [(1, {"acc": 0.5})]
    cut = '{"step": 1, "acc": 0.5}\n{"step": 2, "ac'
    assert rows(read(tmp_path, cut, ended=False)) == [(1, {"acc": 0.5})]


def test_header_may_change_and_short_rows_are_left_out(tmp_path: Path) -> None:
    text = "step,loss\n1,0.5\nstep,loss,acc\n2,0.4,0.9\n3,0.3\n4,0.2,0.8\n"
    found = [(1, {"loss": 0.5}), (2, {"loss": 0.4, "acc": 0.9}), (4, {"loss": 0.2, "acc": 0.8})]
    assert rows(read(tmp_path, text)) == found


def test_end_of_a_long_file_has_the_header_of_its_beginning(tmp_path: Path) -> None:
    text = "step,loss\n" + "".join(f"{n},{n / 10}\n" for n in range(1000))
    for encoding in ("utf-8", "utf-16"):
        found = rows(read(tmp_path, text.encode(encoding), most_bytes=200))
        assert found[-1] == (999, {"loss": 99.9})
        assert len(found) < 24


def test_long_json_document_is_read_as_a_whole_after_the_end(tmp_path: Path) -> None:
    history = [{"step": step, "loss": step / 10} for step in range(1000)]
    reading = read(tmp_path, json.dumps({"log_history": history}, indent=2), most_bytes=100)
    assert len(reading.rows) == 1000


def test_part_that_was_there_before_gives_only_the_header(tmp_path: Path) -> None:
    before, file = "epoch,acc,other\n1,0.9,0.9\n", tmp_path / "numbers"
    file.write_text(f"{before}1,0.5,\n2,0.75,\n")
    reading = read_metrics_file(file, is_complete=True, begin=len(before))
    assert rows(reading) == [(1, {"acc": 0.5}), (2, {"acc": 0.75})]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("val_acc", True), ("loss", True), ("time_series_error", True), ("metrics/mAP50(B)", True),
        ("epoch", False), ("_runtime", False), ("_wandb/runtime", False), ("eval_runtime", False),
        ("eval_steps_per_second", False), ("train/learning_rate", False), ("lr/pg0", False),
        ("lr-Adam", False), ("grad_norm", False), ("time", False), ("img/size", False),
    ],
)  # fmt: skip
def test_counters_times_sizes_and_learning_rates_are_no_results(name: str, is_one: bool) -> None:
    assert is_result(name) is is_one
