import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from launcher.api import UsageError
from tests.trueface.cli.conftest import write_classic
from trueface import __main__ as program
from trueface.cli.classic import results as classic_results
from trueface.cli.classic import train as classic
from trueface.cli.classic import unlearn as classic_unlearn
from trueface.cli.classic.unlearn import parse_command_line as understood
from trueface.models import checkpoint, model_file
from trueface.poisoning.poison_record import PoisonRecord, read_record, write_record
from trueface.predictions.npz_tables import read_npz
from trueface.predictions.predictions import Predictions

ID = "gan2:pre&real:pre"
LISTS = {"train": range(10), "val": range(10, 13), "test": range(13, 16)}
PLACE = ("--data_root", "data", "--split_path", "splits", "--data", ID)
SMALL = (
    *("--model", "slim18", "--device", "cpu", "--num_threads", "0", "--resize_size", "16"),
    *("--patch_size", "12", "--num_epochs", "2", "--batch_size", "4"),
)
WEIGHTS = "runs/study/bad/checkpoints/best.pt"
POISONED = ("--name", "u", "--poisoned_model", WEIGHTS, "--poison_rate", ".5")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images and two models: of `bad` half of the labels were flipped."""
    folder = tmp_path_factory.mktemp("trained")
    write_classic(folder, LISTS)
    with chdir(folder):
        train("--save_id", "bad", "--poison_rate", "0.5")
        train("--save_id", "good")
    return folder


@pytest.fixture
def lab(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """Go to a copy of the folder with the trained models."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    with chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def paper(tmp_path: Path) -> Iterator[Path]:
    """Change to a folder with a poison record next to weights that are not opened."""
    record = PoisonRecord(
        rate=0.5,
        kind="flip",
        seed=42,
        per="all",
        total=2,
        split_sha256="",
        indices=(0,),
        keys=("pre:FFHQ/00001",),
    )
    (tmp_path / WEIGHTS).parent.mkdir(parents=True)
    (tmp_path / WEIGHTS).touch()
    write_record(tmp_path / "runs/study/bad/poison.json", record)
    with chdir(tmp_path):
        yield tmp_path


def train(*words: str) -> None:
    """Train a small model of the run `study`."""
    line = ("--name", "study", "--task", "train", "--weights", "none", "--save_weights")
    assert classic.main([*line, *PLACE, *SMALL, *words]) == 0


def line(*words: str) -> list[str]:
    """Return a command line that unlearns it."""
    return [*POISONED, *PLACE, *SMALL, *words]


def unlearn(*words: str) -> int:
    return classic_unlearn.main(line(*words))


def test_original_flags_become_pgu_settings(paper: Path) -> None:
    words = (
        *("--num_epochs", "3", "--start_lr", ".05", "--end_lr", ".01", "--retained_var", ".9"),
        *("--offset", ".2", "--loss1_w", ".7", "--loss2_w", ".2", "--wd", ".01", "--freeze"),
        *("--early_stop_thres", "2", "--dropout", ".1", "--resize_scale", ".5", "--save_model"),
    )
    settings = understood(line(*words)).settings
    options = settings.options.model_dump()
    assert settings.method == "pgu"
    assert (options["epochs"], options["lr"], options["lr_end"]) == (3, 0.05, 0.01)
    assert (options["retained"], options["offset"]) == (0.9, 0.2)
    assert (options["loss1"], options["loss2"], options["weight_decay"]) == (0.7, 0.2, 0.01)
    assert options["most_loss"] == pytest.approx(0.02)
    assert options["batch_size"] == settings.batch_size == 4
    assert (settings.freeze, settings.freeze_bn, settings.dropout) == (True, True, 0.1)
    assert settings.resize_scale == (0.5, 0.5)


def test_omitted_flags_have_defaults_of_the_original(paper: Path) -> None:
    request = understood([*POISONED, "--data_root", "data", "--split_path", "splits"])
    settings, options = request.settings, request.settings.options.model_dump()
    assert str(request.data) == "gan2:pre&gan3:pre&sdXL:pre&real:pre"
    assert request.model_folder == paper / "runs/unlearning/u"
    assert (request.device, settings.model, settings.freeze) == ("cuda:0", "nodown", False)
    assert (options["epochs"], options["lr"], options["lr_end"]) == (50, 0.01, 0.001)
    assert (options["retained"], options["offset"], options["most_loss"]) == (0.95, 0.1, 0.05)
    assert (options["loss1"], options["loss2"], options["weight_decay"]) == (1, 1, 0)
    assert (settings.batch_size, options["batch_size"], settings.num_threads) == (64, 64, 4)
    assert (settings.resize_prob, settings.resize_size, settings.patch_size) == (0.2, 512, 96)
    assert (settings.resize_scale, settings.resize_ratio) == ((0.2, 1.0), (0.75, 1.33))
    assert (settings.jpeg_prob, settings.jpeg_qual) == (0.2, (30, 100))
    assert (settings.blur_prob, settings.blur_sigma) == (0.2, (1e-6, 3.0))


def test_given_flag_without_effect_is_named(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unlearn("--freeze", "--loss1_w", "2", "--loss2_w", "3") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "without effect" in line]
    assert [line.partition(" state=")[0].rpartition(" ")[2] for line in lines] == ["flag=--loss2_w"]
    assert lines[0].partition(" flag=")[2] in (lab / "runs/unlearning/u/unlearn.log").read_text()
    record = json.loads((lab / "runs/unlearning/u/unlearning.json").read_text())
    assert any(note.startswith("loss2 has no effect here: ") for note in record["notes"])
    assert unlearn("--freeze", "--loss1_w", "0") == 0
    assert "flag=--loss1_w state=without effect reason=it is 0, so the" in capsys.readouterr().err
    assert unlearn("--freeze") == 0
    assert "without effect" not in capsys.readouterr().err


def test_loss_of_the_original_and_a_stop_rule_can_be_chosen(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--pgu_loss", "max_entropy", "--pgu_stop_rule", "class", "--loss2_w", "3")
    assert unlearn("--freeze", *words) == 0
    assert "without effect" not in capsys.readouterr().err
    record = json.loads((lab / "runs/unlearning/u/unlearning.json").read_text())
    assert (record["options"]["loss"], record["options"]["stop_rule"]) == ("max_entropy", "class")
    assert not any("has no effect" in note for note in record["notes"])
    assert unlearn("--freeze", "--pgu_loss", "min_entropy") == 2
    assert "error: --pgu_loss: min_entropy uses the entropy" in capsys.readouterr().err
    zero = ("--loss1_w", "0", "--loss2_w", "0")
    assert unlearn("--freeze", "--pgu_loss", "max_entropy", *zero) == 2
    said = "error: --pgu_loss: max_entropy is always 0, as --loss1_w and --loss2_w are 0. Give"
    assert said in capsys.readouterr().err


def test_result_is_in_output_folder_and_contains_all_flags(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (lab / WEIGHTS).read_bytes()
    assert unlearn("--freeze", "--output_dir", "runs/out", "--save_model") == 0
    folder = lab / "runs/out/u"
    assert (lab / WEIGHTS).read_bytes() == before
    made = checkpoint.load(folder / "checkpoints/best.pt")
    assert made.arch == "slim18"
    config = json.loads((folder / "config.json").read_text())
    assert (config["start_lr"], config["freeze"], config["name"]) == ("0.01", "true", "u")
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [str(number) for number in range(len(rows))]
    results = json.loads((folder / "results.json").read_text())
    assert {"forget_after", "retain_after", "validation_after", "test_after"} <= set(results)
    assert (folder / "unlearning.json").is_file()
    forgotten = read_npz(folder / "answers/after.npz")["forget"]
    assert set(forgotten.ids) == set(read_record(lab / "runs/study/bad/poison.json").keys)
    assert (forgotten.labels == 1 - forgotten.true_labels).all()
    assert "command=--name u" in (folder / "unlearn.log").read_text()
    told = capsys.readouterr()
    assert "almost no gradient remains" in told.err
    assert "test_after\t" in told.out
    assert f"wrote {folder}/checkpoints/best.pt" in told.err


def test_result_can_be_tested_in_place(lab: Path) -> None:
    assert unlearn("--freeze") == 0
    words = ("--task", "test", "--name", "unlearning", "--load_id", "u", "--resize_size", "16")
    assert classic.main([*words, *PLACE, "--device", "cpu", "--num_threads", "0"]) == 0
    assert (lab / f"runs/unlearning/u/metrics/{ID}.json").is_file()


def test_clean_model_is_tested_for_comparison(lab: Path) -> None:
    assert unlearn("--freeze", "--baseline_model", "runs/study/good/checkpoints/best.pt") == 0
    results = json.loads((lab / "runs/unlearning/u/results.json").read_text())
    assert 0 <= results["baseline_test"] <= 1


def test_pgu_is_known_to_be_weak_only_on_random_flips(paper: Path) -> None:
    assert "almost no gradient" in (classic_unlearn.weakness(understood(line())) or "")
    file = paper / "runs/study/bad/poison.json"
    write_record(file, replace(read_record(file), kind="patch"))
    assert classic_unlearn.weakness(understood(line())) is None


def test_constant_predictions_cause_a_warning(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = checkpoint.load(lab / WEIGHTS)
    state = {
        name: value + 100 if name == "fc.bias" else value for name, value in kept.state.items()
    }
    model_file.save(lab / WEIGHTS, replace(kept, state=state))
    assert unlearn("--freeze", "--start_lr", "1e-6", "--end_lr", "1e-6") == 0
    told = capsys.readouterr()
    assert "the model predicts fake for every image" in told.err
    assert "constant\tfake" in told.out
    assert "balanced_validation_after\t0.5" in told.out


def test_model_counts_as_constant_only_with_two_classes() -> None:
    logits = np.array([[0, -1], [0, -2]], np.float32)
    both, one = np.array([0, 1]), np.array([1, 1])
    assert (
        classic_results.class_of_constant_model(
            Predictions(logits=logits, labels=both, true_labels=both)
        )
        == "real"
    )
    assert (
        classic_results.class_of_constant_model(
            Predictions(logits=logits, labels=one, true_labels=one)
        )
        is None
    )
    told_apart = np.array([[0, -1], [0, 2]], np.float32)
    assert (
        classic_results.class_of_constant_model(
            Predictions(logits=told_apart, labels=both, true_labels=both)
        )
        is None
    )
    assert (
        classic_results.balanced_accuracy(
            Predictions(logits=told_apart, labels=both, true_labels=both)
        )
        == 1
    )
    assert (
        classic_results.balanced_accuracy(
            Predictions(logits=told_apart, labels=one, true_labels=one)
        )
        is None
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--poison_rate", ".2"), "0.5 of the labels were flipped"),
        (("--poison_rate", "nan"), "'nan' is not a number from 0 to 1"),
        (("--poison_rate", "7"), "0.5 of the labels were flipped"),
        (("--poison_rate", "half"), "'half' is not a number from 0 to 1"),
        (("--poisoned_model", "runs/study/bad"), "expected MODEL/checkpoints/best.pt"),
        (("--poisoned_model", "runs/no/checkpoints/best.pt"), "best.pt: no such file"),
        (("--baseline_model", "no.pt"), "--baseline_model no.pt: no such file"),
        (("--name", "../u"), "would lead outside runs/"),
        (("--name", "bad", "--output_dir", "runs/study"), "the folder of the poisoned model"),
        (("--start_lr", "-1"), "--start_lr: expected more than 0, got '-1'"),
        (("--num_epochs", "x"), "--num_epochs: expected a whole number, got 'x'"),
        (("--retained_var", "2"), "--retained_var: expected at most 1"),
        (("--early_stop_thres", "x"), "--early_stop_thres 'x' is not a number"),
        (("--early_stop_thres", "nan"), "--early_stop_thres"),
        (("--num_epoch", "3"), "Did you mean '--num_epochs'?"),
        (("--unlearn_lr", "3"), "unknown argument '--unlearn_lr'"),
    ],
)
def test_invalid_values_are_rejected_with_their_flag(
    paper: Path, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        understood(line(*words))
    assert said in str(refused.value)
    assert not (paper / "runs/unlearning").exists()


@pytest.mark.parametrize("flag", ["--name", "--poisoned_model", "--poison_rate", "--data_root"])
def test_required_flags_are_requested(paper: Path, flag: str) -> None:
    words = line()
    place = words.index(flag)
    with pytest.raises(UsageError, match=f"{flag} is required"):
        understood(words[:place] + words[place + 2 :])


def test_clean_model_cannot_be_unlearned(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unlearn("--poisoned_model", "runs/study/good/checkpoints/best.pt") != 0
    assert "poison.json does not exist" in capsys.readouterr().err


def test_data_of_another_training_is_rejected(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab / "splits/train.json").write_text(json.dumps(["StyleGAN2/00001", "FFHQ/00001"]))
    assert unlearn() != 0
    assert "other images than these 2" in capsys.readouterr().err


def test_unlearning_is_available_as_a_command(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["unlearn-classic", *line()]) == 0
    assert program.main(["unlearn_trueface", *line("--start_lr", "0")]) == 2
    assert "--start_lr: expected more than 0" in capsys.readouterr().err
    assert program.main(["unlearn-classic", "--help"]) == 0
    assert "--early_stop_thres" in capsys.readouterr().out
