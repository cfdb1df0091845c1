"""Numbers in the logs of programs that know nothing of the queue, and names that are no results."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.queue.workers.progress.line_forms import FORMS, Form, read_form
from launcher.queue.workers.progress.number_names import OF_BATCH
from launcher.queue.workers.progress.printed_lines import LONGEST_BYTES
from launcher.queue.workers.progress.printed_numbers import (
    parse_printed_steps,
    read_newest_step,
    read_printed_numbers,
)
from launcher.queue.workers.progress.result_names import SPREAD, reason_against
from tests.documents import TREE
from tests.launcher.workers.progress.judged_logs import judge, judged_logs

# numbers of the logs that are found, of those that are wanted; they may only rise
FOUND_OF_COMMON, FOUND = 560, 828
STEPS = 207  # logs whose progress is right
END = 64 << 10  # bytes of a log that are read
# line, numbers, step of total
LINES: list[tuple[str, dict[str, float], str]] = [
    ("{'loss': 0.693, 'grad_norm': 1.2, 'learning_rate': 2e-05, 'epoch': 0.5}", {"loss": 0.693}, ""),
    ("{'eval_loss': '0.31', 'epoch': '1.0'}", {"eval_loss": 0.31}, ""),
    ("{'eval_loss': np.float64(0.31), 'eval_runtime': 2.1, 'epoch': 1.0}", {"eval_loss": 0.31}, ""),
    ("938/938 ━━━━━━━━━━━━━━━━━━━━ 5s 5ms/step - accuracy: 0.9656 - val_loss: 0.1004", {"accuracy": 0.9656, "val_loss": 0.1004}, "step 938/938"),
    ("16/16 - 0s - 12ms/step - loss: 2.05 - val_loss: 2.07", {"loss": 2.05, "val_loss": 2.07}, ""),
    ("60/60 [==============================] - 1s 3ms/step - loss: 0.25 - auc: 0.9", {"loss": 0.25, "auc": 0.9}, "step 60/60"),
    ("        test_acc            0.9312000274658203", {"test_acc": 0.9312000274658203}, ""),
    ("│         test_loss         │    0.2213     │", {"test_loss": 0.2213}, ""),
    ("Train: 2 [ 100/1251 (  8%)]  Loss: 6.93 (6.94)  Time: 0.5s, 2.1/s  (0.6s, 1.9/s)  LR: 1.0e-06  Data: 0.01 (0.02)", {"Loss": 6.94}, "epoch 2, 100/1251"),
    ("Epoch: [0][   35/320292]\tTime  1.2 ( 1.3)\tLoss 7.0e+00 (6.9e+00)", {"Loss": 6.9}, "epoch 0, 35/320292"),
    ("[1/5][62/63] Loss_D: 1.8 Loss_G: 0.5", {"Loss_D": 1.8, "Loss_G": 0.5}, "epoch 1/5, 62/63"),
    ("| epoch   2 |    12/   16 batches | loss  3.54 | ppl    34.31", {"loss": 3.54, "ppl": 34.31}, "epoch 2, 12/16"),
    ("Train Epoch: 2 [40000/60000 (67%)]\tLoss: 0.123456", {"Loss": 0.123456}, "epoch 2"),
    ("Test set: Average loss: 0.1000, Accuracy: 9600/10000 (96%)", {"Average loss": 0.1, "Accuracy": 0.96}, ""),
    ("[5]\ttrain-rmse:0.12+0.01\ttest-rmse:0.13+0.02", {"train-rmse": 0.12, "test-rmse": 0.13}, "step 5"),
    ('{"step": 100, "loss": 0.25, "train": {"acc": 0.91}, "lr": 0.1}', {"loss": 0.25, "train/acc": 0.91}, "step 100"),
    ('2026-11-28 10:00:01 INFO {"epoch": 3, "val_acc": 0.5, "best": true}', {"val_acc": 0.5}, "epoch 3"),
    ("Val Acc: 91.2%", {"Val Acc": 91.2}, ""),
    ("F1: 0.9123, precision: 0.9, recall: 0.92", {"F1": 0.9123, "precision": 0.9, "recall": 0.92}, ""),
    ("f1       : 0.91", {"f1": 0.91}, ""),
    ("F1 score: 0.8020", {"F1 score": 0.802}, ""),
    ("R2 score = 0.5", {"R2 score": 0.5}, ""),
    ("F1 (macro): 0.71", {"F1 (macro)": 0.71}, ""),
    ("Top 1 accuracy: 71.2", {"Top 1 accuracy": 71.2}, ""),
    ("ROC AUC:  0.8963", {"ROC AUC": 0.8963}, ""),
    ("mIoU   = 0.71", {"mIoU": 0.71}, ""),
    ("accuracy = 0.93 ± 0.01", {"accuracy": 0.93}, ""),
    ("Test Accuracy: 0.913 (+/- 0.004)", {"Test Accuracy": 0.913}, ""),
    ("step 3 of 10", {}, "step 3/10"),
    ("Epoch [3/10], Step [100/600], Loss: 0.2345", {"Loss": 0.2345}, "epoch 3/10, 100/600"),
    ("epoch 3 loss=0.2 acc=.91", {"loss": 0.2, "acc": 0.91}, "epoch 3"),
    ("loss:0.3 acc:0.9", {"loss": 0.3, "acc": 0.9}, ""),
    ("epoch 2 | loss 0.3 | acc 0.9 | 12.1s", {"loss": 0.3, "acc": 0.9}, "epoch 2"),
    ("[epoch   1] loss 1.000 | acc@1 50.0 | acc@5 80.0 | 12.3s/it | mem 1024MB", {"loss": 1.0, "acc@1": 50.0, "acc@5": 80.0}, "epoch 1"),
    ("EPOCH 2/2 LOSS 0.3 ACC 0.9", {"LOSS": 0.3, "ACC": 0.9}, "epoch 2/2"),
    ("episode 20 reward: -3.25e+01", {"reward": -32.5}, "step 20"),
    ("iter 1000: loss 0.3314, time 43.20ms, mfu 12.31%", {"loss": 0.3314}, "step 1000"),
    ("2026-11-27 09:00:01,123 | INFO | val_loss: 0.31 | val_acc: 0.9", {"val_loss": 0.31, "val_acc": 0.9}, ""),
    ("INFO:root:Epoch 3: loss = 1e-05", {"loss": 1e-05}, "epoch 3"),
    ('ts=2026-11-30T10:00:00Z level=info msg="eval" epoch=2 loss=1.10', {"loss": 1.1}, "epoch 2"),
    ("Verlust 0,8123, Genauigkeit 0,6711", {"Verlust": 0.8123, "Genauigkeit": 0.6711}, ""),
    ("loss 1,204.51", {"loss": 1204.51}, ""),
    ("loss: 12,345", {}, ""),  # 12.345 or 12345
    ("fval = 1.22D-06", {}, ""),
    ("error: 404", {}, ""),
    ("Namespace(lr=0.1, loss=0.5)", {}, ""),
    ("(1): BatchNorm2d(512, eps=1e-05, momentum=0.1)", {}, ""),
    ("lib/base.py:12: ConvergenceWarning: acc=0.3 max_iter=100", {}, ""),
    ("AssertionError: loss=0.5", {}, ""),
    ("+ python fit.py --lr=0.003 acc=0.9", {}, ""),
    ("uploading to https://example.org/?acc=0.9 done", {}, ""),
    ("target_acc: 0.95", {}, ""),
    ("loss_scale: 65536.0", {}, ""),
    ("lr=0.1 batch_size=32 epochs=3 dropout=0.1 loss=0.5", {}, ""),  # a line of settings
]  # fmt: skip
NOTHING = TREE / "tests" / "launcher" / "data" / "lines_without_results.txt"


def numbers_of(*lines: str) -> dict[str, float]:
    return read_printed_numbers("\n".join(lines).encode()).values


def test_logs_of_real_tools_have_no_wrong_number() -> None:
    found = found_of_common = steps = 0
    faults: list[str] = []
    for log in judged_logs():
        read = read_printed_numbers(log.text[-END:])
        step = None if read.step is None else (read.step.step, read.step.total)
        verdict = judge(log.truth, read.values, step)
        faults += [f"{log.name}: {each}" for each in (*verdict.wrong, *verdict.other)]
        faults += [f"{log.name}: step {step}"] if verdict.progress is False else []
        found += len(verdict.found)
        found_of_common += len(verdict.found) if log.is_common else 0
        steps += verdict.progress is True and bool(log.truth.get("progress"))
    assert faults == []
    assert found >= FOUND
    assert found_of_common >= FOUND_OF_COMMON
    assert steps >= STEPS


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_each_form_reads_its_example(form: Form) -> None:
    read = read_form(form.example)
    assert read is not None
    assert read[0] == form.name
    assert form.source


@pytest.mark.parametrize(("line", "numbers", "counted"), LINES, ids=[each[0] for each in LINES])
def test_line_of_a_program_gives_its_results(
    line: str, numbers: dict[str, float], counted: str
) -> None:
    read = read_printed_numbers(line.encode())
    assert read.values == numbers
    step = read.step
    shown = "" if step is None else str(step._replace(metrics={}))
    assert (shown if step is None or step.batch else f"{step.unit} {shown}") == counted


@pytest.mark.parametrize("line", NOTHING.read_text(encoding="utf-8").splitlines())
def test_line_without_results_gives_none(line: str) -> None:
    read = read_printed_numbers(line.encode())
    assert read.values == {}


def test_later_line_takes_nothing_away() -> None:
    epilogue = (
        "[Parallel(n_jobs=4)]: Done  60 out of  60 | elapsed:    2.1s finished",
        "ConvergenceWarning: lbfgs failed to converge (status=1): max_iter=200 reached",
        "Namespace(lr=0.05, batch_size=16, hidden=32)",
        "WorkNCCL(SeqNum=12, NumelIn=1024)",
        "finished seed=7 in 3.2s",
        "elapsed=12.5",
        "Traceback (most recent call last):",
        '  File "plots.py", line 17, in plot(pad=0.1)',
        "FileNotFoundError: out/acc=0.99/plot.png",
    )
    assert numbers_of("val_acc: 0.87", *epilogue) == {"val_acc": 0.87}
    once = (
        "{'eval_loss': 0.66, 'epoch': 1.0}",
        "{'train_runtime': 3.1, 'train_loss': 1.1, 'epoch': 1.0}",
    )
    assert numbers_of(*once) == {"eval_loss": 0.66, "train_loss": 1.1}


def test_title_is_part_of_a_name_that_two_titles_have() -> None:
    epochs = ("Train: loss=0.4 acc=0.8", "Valid: loss=0.5 acc=0.7")
    assert numbers_of(*epochs, "Test: f1=0.6") == {
        "f1": 0.6, "Valid loss": 0.5, "Valid acc": 0.7, "Train loss": 0.4, "Train acc": 0.8,
    }  # fmt: skip
    assert numbers_of("train Loss: 0.41 Acc: 0.80", "val Loss: 0.22 Acc: 0.92") == {
        "val Loss": 0.22, "val Acc": 0.92, "train Loss": 0.41, "train Acc": 0.8,
    }  # fmt: skip
    blocks = ("=== SVC ===", "Accuracy: 0.8", "", "=== Forest ===", "Accuracy: 0.9", "")
    assert numbers_of(*blocks) == {"SVC Accuracy": 0.8, "Forest Accuracy": 0.9}
    # a training without a title has no number beside that of the test
    assert numbers_of("epoch 1 loss=0.2", "Test: loss=0.5") == {"Test loss": 0.5}


def test_mean_replaces_the_numbers_of_which_it_is_the_mean() -> None:
    folds = ("Fold 1: accuracy = 0.8", "Fold 2: accuracy = 0.9")
    assert numbers_of(*folds, "CV accuracy: 0.85 (std 0.05)") == {"CV accuracy": 0.85}
    assert numbers_of(*folds) == {"Fold 1 accuracy": 0.8, "Fold 2 accuracy": 0.9}
    meters = "Test: [19/20]\tLoss 5.70 (5.81)\tAcc@1 11.08 (11.31)"
    assert numbers_of(meters, " * Acc@1 12.318") == {"Acc@1": 12.318}


def test_names_that_are_left_out_have_a_reason() -> None:
    text = b"lr: 0.1\nacc: 0.9 +/- 0.1\nepoch time: 3.2\nspam: 3\nsaved model of loss=0.4 now\n"
    left_out = read_printed_numbers(text).left_out
    assert {name: (each.reason, each.line) for name, each in left_out.items()} == {
        "lr": ("a time, rate or learning rate", 1),
        "acc std": (SPREAD, 2),
        "epoch time": ("a time, rate or learning rate", 3),
        "spam": ("not a name of a result", 4),
        "loss": ("its line contains other text", 5),
    }


def test_names_that_are_asked_for_count_wherever_they_are_printed() -> None:
    text = b"tokens/s: 18 lr=0.5\nloss 3\nPotential: -1.5 kJ\nwall time  3.5 s\ndone with tokens/s=20 now\n"
    read = read_printed_numbers(text, ("tokens/s", "LR", "potential", "wall time", "ghost"))
    assert read.values == {
        "tokens/s": 20.0, "LR": 0.5, "potential": -1.5, "wall time": 3.5, "loss": 3.0,
    }  # fmt: skip
    assert read.numbers["tokens/s"].line == 5
    part = b"took: 12:30\nbuild 1.2.3\nday 2026-11-30\nEnergy = -1.5D-06\ntokens/s: 900\ntokens/s: 1.2k\n"
    newer = read_printed_numbers(part, ("took", "build", "day", "Energy", "tokens/s"))
    assert newer.values == {}
    assert newer.left_out["tokens/s"].reason == "line 6 has a newer one that cannot be read"


def test_tables_have_the_names_of_their_columns_and_rows() -> None:
    epochs = (
        "epoch     train_loss  accuracy  time",
        "0         0.732100    0.8913    00:12",
        "1         0.410200    0.9142    00:13",
    )
    read = read_printed_numbers("\n".join(epochs).encode())
    assert read.values == {"accuracy": 0.9142, "train_loss": 0.4102}
    assert read.step is not None
    assert (read.step.step, read.step.unit) == (1, "epoch")
    models = (
        "| model | accuracy | params |",
        "|-------|----------|--------|",
        "| small | 0.81     | 12     |",
        "| large | 0.84     | 98     |",
    )
    assert numbers_of(*models) == {"small accuracy": 0.81, "large accuracy": 0.84}
    assert numbers_of("  mtry  RMSE   MAE", "   2    3.61   2.44", "   7    3.21   2.19") == {}


def test_records_of_several_lines_are_read_without_their_settings() -> None:
    record = (
        "{",
        '  "config": {"lr": 0.1, "acc": 0.5},',
        '  "test": {"rmse": 1.88},',
        '  "n_rows": 20640',
        "}",
    )
    assert numbers_of(*record) == {"test/rmse": 1.88}
    assert numbers_of("{'best_reward': 195.5,", " 'duration': '18.20s'}") == {"best_reward": 195.5}


def test_nan_of_a_diverged_run_counts() -> None:
    values = numbers_of("step 100/500 loss=2.3", "step 500/500 loss=nan", "val_ppl: inf")
    assert math.isnan(values["loss"])
    assert values["val_ppl"] == math.inf


def test_newest_step_has_the_numbers_of_the_log() -> None:
    log = b"Epoch 1/2\nloss: 0.5\nEpoch 2/2\nloss: 0.4\nacc: 0.9\nacc: 0.9"
    newest = read_newest_step(log, 7.0, lambda: log)
    assert str(newest) == "2/2 loss=0.4 acc=0.9"
    steps, read = parse_printed_steps(b"[0]\tauc:0.5\n[1]\tauc:0.75\n[2]\tau", 7.0)
    assert [(step.step, step.metrics) for step in steps] == [(0, {"auc": 0.5}), (1, {"auc": 0.75})]
    assert read == len(b"[0]\tauc:0.5\n[1]\tauc:0.75\n")


def test_inner_epochs_of_folds_count_no_progress() -> None:
    log = b"--- Fold 1/5 ---\nepoch 1/2 loss 0.6\nepoch 2/2 loss 0.4\n"
    assert read_printed_numbers(log).step is None


def test_line_that_is_too_long_is_not_read() -> None:
    assert numbers_of("acc: 1.5, " * LONGEST_BYTES) == {}
    assert numbers_of("x" * (64 << 10), "acc: 0.5") == {"acc": 0.5}


def test_names_of_results_need_a_word_of_the_field() -> None:
    for name in (
        "val_loss",
        "Top-5 accuracy (%)",
        "areaUnderROC",
        "rougeL",
        "验证准确率",
        "best so far acc",
    ):
        assert not reason_against(name), name
    for name in (
        "port",
        "loss weight",
        "num_acc",
        "eval_runtime",
        "train_samples_per_second",
        "n_params",
        "bwa_map",
    ):
        assert reason_against(name), name


@given(st.text(st.sampled_from("ab0 .:=,|[]()/%{}'\"\t\n\r\b\x1b-eE+epochstepacc"), max_size=120))
def test_any_text_is_read_without_an_error(text: str) -> None:
    read = read_printed_numbers(text.encode(), ("a", "acc"))
    assert all(isinstance(value, float) for value in read.values.values())


def test_columns_of_one_name_count_only_with_the_name_of_their_group() -> None:
    grouped = b"""\
                 Class     Images  Instances      Box(P          R      mAP50  mAP50-95)     Mask(P          R      mAP50  mAP50-95)
                   all        200        249      0.703      0.627      0.665      0.418       0.64      0.551      0.556      0.189
"""
    read = read_printed_numbers(grouped).values
    assert (read["Box R"], read["Mask R"]) == (0.627, 0.551)
    repeated = b"model    acc    f1    acc\nresnet   0.91   0.88  0.72\n"
    assert read_printed_numbers(repeated).values == {"f1": 0.88}


def test_a_table_with_an_epoch_of_fractions_counts_its_last_row() -> None:
    log = b"""\
env0_out_acc  epoch         loss          step
0.2396000000  0.0000000000  1.9744000000  0
0.8068000000  7.1856000000  0.2841000000  300
"""
    read = read_printed_numbers(log)
    assert read.values["env0_out_acc"] == 0.8068
    assert read.step is not None
    assert read.step.step == 300


def test_lines_that_name_a_part_are_the_titles_of_its_numbers() -> None:
    log = b"""\
Category: adversarial, # samples: 3000
Accuracy: 0.853
0.843, 0.853, 0.907
====================
Category: random, # samples: 2910
Accuracy: 0.881
"""
    assert read_printed_numbers(log).values == {
        "adversarial Accuracy": 0.853,
        "random Accuracy": 0.881,
    }


def test_numbers_of_training_batches_are_no_results_beside_those_of_an_evaluation() -> None:
    log = b"""\
2026-11-30 10:00:00 | INFO | train_inner | epoch 001:    100 / 900 loss=8.1, ppl=239.4, lr=1.25e-05
2026-11-30 10:01:00 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 5.6 | ppl 29.86
"""
    read = read_printed_numbers(log)
    assert read.values == {"valid loss": 5.6, "valid ppl": 29.86}
    assert read.left_out["train loss"].reason == OF_BATCH


@pytest.mark.parametrize(
    ("log", "numbers"),
    [
        # a change or a share in brackets is not a mean
        ("Epoch 2/10 - val_acc: 0.85 (+1.2%) - val_loss: 0.4 (-0.05)", "val_acc 0.85, val_loss 0.4"),
        ("Epoch 3: acc 0.85 (12.5%)", "acc 0.85"),
        ("Test: [10/48]  Loss 0.8 (1.02)  Acc 81.2 (76.5)", "Loss 1.02, Acc 76.5"),
        # a remark behind the numbers
        ("epoch 1 val_acc 0.50\nepoch 2 val_acc 0.85 <-- best", "val_acc 0.85"),
        ("epoch 1 val_acc 0.50\nepoch 2 val_acc 0.85 | patience: 2/5", "val_acc 0.85"),
        ("epoch 1 val_acc 0.50\nepoch 2 val_acc 0.85 -> saved to runs/best.pt", "val_acc 0.85"),
        ("epoch 1 val_acc 0.50\nepoch 2 val_acc 0.85 [best]", "val_acc 0.85"),
        ("epoch 1 val_acc 0.50\nepoch 2 val_acc 0.85 and all is well", ""),
        # records of several lines
        (
            'Test metrics: {\n  "acc": 0.80\n}\nTrain metrics: {\n  "acc": 0.99\n}',
            "Test metrics acc 0.8, Train metrics acc 0.99",
        ),
        ('{\n "lr": 0.1,\n "dropout": 0.1,\n "epochs": 3,\n "seed": 1,\n "iou": 0.5\n}', ""),
        ("Config:\n    loss: 1.0\n    dice: 0.5\nTest accuracy: 0.8", "Test accuracy 0.8"),
        # numbers of others
        ("Goal: acc 0.99", ""),
        ("Loaded checkpoint runs/a.pt: val_loss 0.77", ""),
        # parts in lines of their own
        (
            "seed 0\ntest acc 0.8\nseed 1\ntest acc 0.7\nMean acc: 0.75",
            "Mean acc 0.75",
        ),
        ("Evaluating on test set\nacc 0.8\nEvaluating on train set\nacc 0.9", "test acc 0.8, train acc 0.9"),
        # counts, differences, settings
        ("Test accuracy: 9123 of 10000 correct", ""),
        ("acc 0.8\nacc +0.02", "acc 0.8"),
        ("precision: 16", ""),
        ("iou_thres: 0.6\nZielgenauigkeit: 0,95", ""),
        ("Accuracy:\ncomputing ...\n10000", ""),
        ("fold    acc\n0    0.8\n1    0.7\nstd    0.05", "fold 0 acc 0.8, fold 1 acc 0.7"),
        ("acc: 0.8\n1 - acc: 0.2", "acc 0.8"),
        # two numbers, numbers of others, and phases behind the number
        ("acc: 0.8 to 0.9\nf1 0.7 or 0.6\nauc 12 vs 0.4\niou: 0.1 | 0.2", ""),
        ("acc: 0.8\nacc: 0.95 (target)\nacc: 0.9 (published baseline)", "acc 0.8"),
        ("acc: 0.8 (val)\nacc: 0.9 (train set)", "val acc 0.8, train acc 0.9"),
        ("1 - loss: 0.5\n2 - loss: 0.4", "loss 0.4"),
        # a newer number of the name cannot be read
        ("f1: 0.7\nscore: 900.5\nscore: 1.2k", "f1 0.7"),
        ("loss: 0.5\nloss: <0.01", ""),
        ("acc: 0.90\nacc: 95.5 percent", ""),
        ("reward: 999.5\nreward: 1,234", ""),
        ("reward: 12.5\nreward: \u221213.5", ""),
        ("val_acc: 0.98\nval_acc: 1\nprecision: 0.9\nprecision: 1", "val_acc 1"),
        ("acc: 0.8\n(acc) 0.9\nloss: 0.2\nloss;0.1", ""),
        ('{"step": 1, "acc": 0.5}\n{"step": 2, "acc": 0.9', ""),
        ('{"step": 1, "acc": 0.5}\n{"step": 2, "acc": "70 percent"}', ""),
        ("2/2 [00:01<00:00, 9.9it/s, loss=9.5]\n100%|##| 2/2 [00:01<00:00, 9.9it/s, loss=1.2k, acc=91%]", "acc 91"),
        ("epoch  loss  reward\n1  0.5  7.5\n2  0.4  1,234", "loss 0.4"),
        ("epoch  loss  acc\n1  0.5  0.7\n2  0.4", ""),
        # the same number with more digits, no number, and other names
        ("acc: 0.9134\nsaved\nacc: 0.91341 in runs/best.pt", "acc 0.9134"),
        ("acc 0.90\nacc N/A\nbest acc so far 0.95 in runs/best.pt", "acc 0.9"),
        # rows with more cells than headings
        ("epoch  val_loss  acc\n1  0.6  0.7\n2  0.3  0.8  best", "val_loss 0.3, acc 0.8"),
        ("epoch  val_loss  acc\n1  0.6  0.7\n2  0.3  0.8  0.9", ""),
        ("epoch\tloss\tacc\tf1\n1\t0.6\t0.7\t0.5\n2\t\t0.8\t0.4\tbest", "loss 0.6, acc 0.8, f1 0.4"),
    ],
)  # fmt: skip
def test_numbers_of_scripts(log: str, numbers: str) -> None:
    read = read_printed_numbers(log.encode() + b"\n").values
    expected = [each.rpartition(" ") for each in numbers.split(", ") if each]
    assert {**read} == {name: float(value) for name, _, value in expected}
