"""Numbers in lines as frameworks print them, and lines without results."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.workers.progress.framework_lines import (
    parse_framework_line,
    parse_framework_steps,
    parse_newest_framework_step,
    parse_printed_numbers,
)
from launcher.workers.progress.printed_lines import LONGEST_BYTES
from tests.documents import TREE

# framework or habit, line, numbers, step of total
FORMS: list[tuple[str, str, dict[str, float], str]] = [
    ("trainer", "{'loss': 0.693, 'grad_norm': 1.2, 'epoch': 0.5}", {"loss": 0.693, "grad_norm": 1.2, "epoch": 0.5}, ""),
    ("trainer 5", "{'eval_loss': '0.31', 'epoch': '1.0'}", {"eval_loss": 0.31, "epoch": 1.0}, ""),
    ("keras 3", "938/938 ━━━━━━━━━━━━━━━━━━━━ 5s 5ms/step - accuracy: 0.9656 - val_loss: 0.1004", {"accuracy": 0.9656, "val_loss": 0.1004}, ""),
    ("keras 2", "60/60 [==============================] - 1s 3ms/step - loss: 0.25 - auc: 0.9", {"loss": 0.25, "auc": 0.9}, ""),
    ("lightning", "        test_acc            0.9312000274658203", {"test_acc": 0.9312000274658203}, ""),
    ("lightning 2", "│         test_loss         │    0.2213     │", {"test_loss": 0.2213}, ""),
    ("timm", "Test: [  48/48]  Time: 0.105 (0.201)  Loss:   0.812 ( 1.021)  Acc@1:  81.250 ( 76.502)", {"Loss": 1.021, "Acc@1": 76.502}, ""),
    ("timm train", "Train: 2 [ 100/1251 (  8%)]  Loss: 6.93 (6.94)  Time: 0.5s, 2.1/s  (0.6s, 1.9/s)  LR: 1.0e-06  Data: 0.01 (0.02)", {"Loss": 6.94}, "epoch 2"),
    ("imagenet", "Epoch: [4][  11/5005]\tTime  0.203 (  1.204)\tLoss 7.07e+00 (7.09e+00)\tAcc@1   0.00 (  0.10)", {"Loss": 7.09, "Acc@1": 0.1}, "epoch 4"),
    ("imagenet test", " * Acc@1 76.502 Acc@5 93.110", {"Acc@1": 76.502, "Acc@5": 93.11}, ""),
    ("mnist", "Train Epoch: 2 [40000/60000 (67%)]\tLoss: 0.123456", {"Loss": 0.123456}, "epoch 2"),
    ("mnist test", "Test set: Average loss: 0.1000, Accuracy: 9600/10000 (96%)", {"Average loss": 0.1, "Accuracy": 0.96}, ""),
    ("lightgbm", "[10]\tvalid_0's auc: 0.931\tvalid_0's binary_logloss: 0.31", {"valid_0's auc": 0.931, "valid_0's binary_logloss": 0.31}, "step 10"),
    ("xgboost", "[9]\tvalid-auc:0.93210\ttrain-auc:0.99", {"valid-auc": 0.9321, "train-auc": 0.99}, "step 9"),
    ("xgboost cv", "[5]\ttrain-rmse:0.12+0.01\ttest-rmse:0.13+0.02", {"train-rmse": 0.12, "test-rmse": 0.13}, "step 5"),
    ("catboost", "3:\tlearn: 0.6443\ttest: 0.6434\tbest: 0.6434 (3)\ttotal: 47.2ms\tremaining: 47s", {"learn": 0.6443, "test": 0.6434, "best": 0.6434}, "step 3"),
    ("json", '{"step": 100, "loss": 0.25, "train": {"acc": 0.91}}', {"loss": 0.25, "train/acc": 0.91}, "step 100"),
    ("json in a log", '2026-11-28 10:00:01 INFO {"epoch": 3, "val_acc": 0.5, "best": true}', {"val_acc": 0.5}, "epoch 3"),
    ("pairs", "val_loss = 0.21", {"val_loss": 0.21}, ""),
    ("pairs", "Val Acc: 91.2%", {"Val Acc": 91.2}, ""),
    ("pairs", "F1: 0.9123, precision: 0.9, recall: 0.92", {"F1": 0.9123, "precision": 0.9, "recall": 0.92}, ""),
    ("pairs", "step 3 of 10", {}, "step 3/10"),
    ("pairs", "Epoch 3/10 - loss: 0.2 - acc: 0.9", {"loss": 0.2, "acc": 0.9}, "epoch 3/10"),
    ("pairs", "Epoch [3/10], Step [100/600], Loss: 0.2345", {"Loss": 0.2345}, "epoch 3/10"),
    ("pairs", "epoch 3 loss=0.2 acc=.91", {"loss": 0.2, "acc": 0.91}, "epoch 3"),
    ("pairs", "iter 1000: loss 0.3314, time 43.20ms, mfu 12.31%", {"loss": 0.3314, "mfu": 12.31}, "step 1000"),
    ("pairs", "step 250: train loss 2.1, val loss 2.3", {"train loss": 2.1, "val loss": 2.3}, "step 250"),
    ("logger", "2026-11-27 09:00:01,123 | INFO | val_loss: 0.31 | val_acc: 0.9", {"val_loss": 0.31, "val_acc": 0.9}, ""),
    ("logger", "[2026-11-27 09:00:01,123][INFO] step 300: loss 0.3", {"loss": 0.3}, "step 300"),
    ("logger", "INFO:root:Epoch 3: loss = 1e-05", {"loss": 1e-05}, "epoch 3"),
]  # fmt: skip
NOTHING = TREE / "tests" / "launcher" / "data" / "lines_without_results.txt"


@pytest.mark.parametrize(
    ("line", "numbers", "counted"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS]
)
def test_numbers_have_the_names_that_the_framework_printed(
    line: str, numbers: dict[str, float], counted: str
) -> None:
    found = parse_framework_line(line.encode())
    assert found is not None
    assert found.metrics == numbers
    report = found.report(0.0)
    at = "" if report is None else f"{report.unit} {report._replace(metrics={})}"
    assert at == counted


@pytest.mark.parametrize("line", NOTHING.read_text(encoding="utf-8").splitlines())
def test_line_without_results_gives_none(line: str) -> None:
    assert parse_framework_line(line.encode()) is None


def test_last_block_of_lines_counts_and_settings_do_not() -> None:
    log = b"lr: 0.001\nval_acc: 0.5\n\ntraining\nEpoch 1/2 loss: 0.5\nEpoch 2/2 loss: 0.4\nsaved\nval_acc: 0.93\nval_loss = 0.21\nbye\n"
    assert parse_printed_numbers(log) == {"val_acc": 0.93, "val_loss": 0.21, "loss": 0.4}


def test_newest_step_has_the_numbers_that_follow_it() -> None:
    log = b"Epoch 1/2\nloss: 0.5\nEpoch 2/2\nloss: 0.4\nacc: 0.9\n"
    newest = parse_newest_framework_step(log, 7.0)
    assert newest is not None
    assert str(newest) == "2/2 loss=0.4 acc=0.9"
    steps, read = parse_framework_steps(b"[0]\tauc:0.5\n[1]\tauc:0.75\n[2]\tau", 7.0)
    assert [(step.step, step.metrics) for step in steps] == [(0, {"auc": 0.5}), (1, {"auc": 0.75})]
    assert read == len(b"[0]\tauc:0.5\n[1]\tauc:0.75\n")


def test_line_that_is_too_long_is_not_read() -> None:
    assert parse_framework_line(b"a: 1, " * LONGEST_BYTES) is None
    assert parse_printed_numbers(b"x" * (64 << 10) + b"\nacc: 0.5") == {"acc": 0.5}


@given(st.text(st.sampled_from("ab0 .:=,|[]()/%{}'\"\t-eE+epochstep"), max_size=80))
def test_any_line_is_read_without_an_error(line: str) -> None:
    found = parse_framework_line(line.encode())
    assert found is None or all(isinstance(value, float) for value in found.metrics.values())


def test_lines_of_nine_frameworks_are_named_in_the_documentation() -> None:
    page = (TREE / "docs" / "progress.md").read_text(encoding="utf-8")
    for name in ("Trainer", "Keras", "Lightning", "timm", "XGBoost", "LightGBM", "JSON"):
        assert name in page
