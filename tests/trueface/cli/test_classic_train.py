import csv
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import torch

from launcher.api import UsageError
from tests.trueface.cli.conftest import write_classic
from trueface.cli import main
from trueface.cli.classic import train as classic
from trueface.cli.classic.request import parse_command_line, settings_of
from trueface.poisoning.poison_record import PoisonSettings
from trueface.training.settings import TrainSettings

ID = "gan2:pre&real:pre"
LEARN = ("--task", "train", "--data", ID)
LISTS = {"train": range(8), "val": range(8, 10), "test": range(10, 12)}
SMALL = (
    *("--model", "slim18", "--weights", "none", "--device", "cpu", "--num_threads", "0"),
    *("--resize_size", "16", "--patch_size", "12", "--num_epochs", "1", "--batch_size", "4"),
)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Path]:
    write_classic(tmp_path, LISTS)
    with chdir(tmp_path):
        yield tmp_path


def line(task: str, *words: str) -> list[str]:
    where = ("--data_root", "data", "--split_path", "splits")
    return ["--name", "study", "--task", task, *where, *words]


def train(*words: str) -> int:
    return classic.main(line("train", "--data", ID, "--save_weights", *SMALL, *words))


def test_training_and_test_write_the_file_paths_of_the_original(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train() == 0
    folder = lab / "runs/study" / ID
    assert (folder / "checkpoints/best.pt").is_file()
    assert "command=--name study" in (folder / f"train_None_{ID}.log").read_text()
    words = ("--load_id", ID, "--data", "real:pre", "--save_scores", "--resize_size", "16")
    assert classic.main(line("test", *words, "--device", "cpu")) == 0
    with (folder / f"scores/{ID}_vs_real:pre.csv").open() as file:
        assert [row["key"] for row in csv.DictReader(file)] == ["FFHQ/00010", "FFHQ/00011"]
    assert (folder / f"test_{ID}_real:pre.log").is_file()
    captured = capsys.readouterr()
    assert "n\t2" in captured.out.splitlines()
    assert f"scores/{ID}_vs_real:pre.csv" in captured.err
    assert train("--load_id", ID) == 0  # named after its base
    assert (lab / f"runs/study/{ID}#{ID}/checkpoints/best.pt").is_file()
    assert (lab / f"runs/study/{ID}#{ID}/train_{ID}_{ID}.log").is_file()


def test_model_of_another_architecture_is_not_tested(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--save_id", "mine") == 0
    words = ("--load_id", "mine", "--data", "real:pre", "--model", "nodown18", "--device", "cpu")
    assert classic.main(line("test", *words)) == 1
    assert "has model slim18" in capsys.readouterr().err


def test_failure_is_written_to_the_log(lab: Path) -> None:
    (lab / "data/PreSocial/Fake/FLUX.1").mkdir()
    assert train("--save_id", "m", "--data", "flux:pre") == 2
    assert (
        "error=no images of flux:pre" in (lab / "runs/study/m/train_None_flux:pre.log").read_text()
    )


@pytest.mark.parametrize(
    ("flags", "drawn"),
    [
        ("--seed 3", 3),
        ("--seed 3 --poison_seed 7", 7),
        ("--poison_seed 7", 7),
        ("--seed 3 --poison_list keys.txt", 42),
    ],
)
def test_flipped_labels_depend_on_seed_unless_poison_seed_is_given(flags: str, drawn: int) -> None:
    where = ("--data_root", "data", "--split_path", "splits", "--data", ID)
    request = parse_command_line(["--task", "train", *where, *flags.split()])
    assert settings_of(PoisonSettings, request).poison_seed == drawn


@pytest.mark.parametrize("kept", [(), ("--keep_poison",)])
def test_clean_training_removes_record_of_earlier_poison(lab: Path, kept: tuple[str, ...]) -> None:
    assert train("--poison_rate", "0.5", "--save_id", "m") == train("--save_id", "m", *kept) == 0
    assert not (lab / "runs/study/m/poison.json").exists()


def test_preview_shows_poison_and_overwrites_no_files(lab: Path) -> None:
    assert train("--save_id", "m", "--poison_rate", "0.5") == 0
    folder = lab / "runs/study/m"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert train("--save_id", "m", "--poison_rate", "0.5", "--poison_seed", "7", "--preview") == 0
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after.pop("preview.png").startswith(b"\x89PNG")
    assert after == before


@pytest.mark.parametrize("spelt", [("--freeze_bn", "false"), ("--no-freeze_bn",)])
def test_boolean_flags_accept_both_forms(spelt: tuple[str, ...]) -> None:
    where = ("--data_root", "data", "--split_path", "splits", "--freeze", "--data", ID)
    request = parse_command_line(["--task", "train", *where, *spelt])
    settings = settings_of(TrainSettings, request)
    assert (settings.freeze, settings.freeze_bn) == (True, False)


@pytest.mark.parametrize("name", ["", "a\nb", "x\x01"])
def test_unprintable_name_is_rejected(
    lab: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--save_id", name) == 2
    assert "--save_id" in capsys.readouterr().err
    assert not (lab / "runs").exists()


def test_no_weights_are_saved_without_save_weights(lab: Path) -> None:
    assert classic.main(line("train", "--data", ID, "--save_id", "m", *SMALL)) == 0
    assert not (lab / "runs/study/m/checkpoints").exists()


def test_missing_cuda_falls_back_to_cpu_with_a_message(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train("--device", "cuda:0") == 0
    assert "so the CPU is used" in capsys.readouterr().err


def test_unavailable_pretrained_weights_raise_error_with_both_remedies(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRUEFACE_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(lab / "torch"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(
        urllib.request, "_opener", None
    )  # an earlier one reads other proxy settings
    words = line("train", "--data", ID, "--model", "baseline18", "--device", "cpu")
    assert classic.main(words) == 3
    message = capsys.readouterr().err
    assert "--weights none" in message
    assert "TRUEFACE_WEIGHTS" in message


def test_interrupt_ends_training_cleanly(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = lab / f"runs/study/m/train_None_{ID}.log"

    ended = threading.Event()

    def interrupt() -> None:
        while not ended.wait(0.02):
            if log.exists() and "epoch=1" in log.read_text():
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        assert train("--save_id", "m", "--num_epochs", "1000000") == 130
    finally:
        ended.set()
        thread.join()
    assert "epoch=1" in log.read_text()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--task", "tarin"), "Did you mean 'train'"),
        ((), "--task is required"),
        (("--task", "train"), "--data is required"),
        (("--task", "train", "--data", "gna2:pre"), "Did you mean 'gan2'"),
        (("--task", "train", "--data", "gan2"), "expected subset:modifier"),
        ((*LEARN, "--modle", "x"), "Did you mean '--model'"),
        ((*LEARN, "--model", "nodwon"), "Did you mean 'nodown'"),
        ((*LEARN, "--poison_rate", "1.5"), "is not between 0 and 1"),
        ((*LEARN, "--poison_rate", "half"), "is not a number"),
        ((*LEARN, "--poison_kind", "f3r"), "Did you mean 'f2r'"),
        ((*LEARN, "--resume_from", "x"), "not an epoch number"),
        ((*LEARN, "--save_id", "../x"), "outside runs/"),
        ((*LEARN, "--save_id", ""), "is empty"),
        ((*LEARN, "--save_id", "é" * 255), "255 bytes"),
        ((*LEARN, "--save_id", "x/" * 200), "outside runs/"),
        ((*LEARN, "--optimizer_state", "kept"), "a model to start from"),
        (("--task", "train", "--data", "mine:pre", "--subsets", "mine"), "WORD=FOLDER"),
        ((*LEARN, "--subsets", "gan=x"), "already exists"),
        ((*LEARN, "--subsets", "a=x", "a=y"), "twice"),
        ((*LEARN, "--name", ".."), "outside runs/"),
        (("--task", "test", "--data", ID), "--load_id is required"),
        (("--task", "test", "--data", ID, "--load_id", "m", "--model", "nodwon"), "mean 'nodown'"),
        (("--task", "test", "--data", ID, "--load_id", "/etc"), "outside runs/"),
    ],
)
def test_impossible_flags_exit_with_code_2(
    lab: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert classic.main([*words, "--data_root", "data", "--split_path", "splits"]) == 2
    assert said in capsys.readouterr().err
    assert not (lab / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data_root", "nowhere"), "the data folder"),
        (("--split_path", "nowhere"), "the train split"),
        (("--load_id", "nobody"), "the model nobody"),
        (("--weights", "nowhere.pt"), "pretrained weights"),
        (("--device", "tpu"), "unknown device"),
        (("--data", "flux:pre"), "the folder of flux:pre"),
    ],
)
def test_missing_files_exit_with_code_2(
    lab: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert train(*words) == 2
    assert said in capsys.readouterr().err


def test_all_flags_of_the_original_are_accepted() -> None:
    flags = (
        "--name n --save_id s --load_id l --resume_from -1 --task train --device cpu --model nodown"
        " --freeze --num_epochs 2 --lr 1e-4 --lr_decay_epochs 3 --save_weights --save_scores"
        " --features --split_path sp --data_root dr --data gan2:pre --batch_size 8 --num_threads 2"
        " --poison_rate 0.2 --resize_prob 0.2 --resize_scale 0.2 1.0 --resize_ratio 0.75 1.33"
        " --resize_size 64 --dropout 0.1 --jpeg_prob 0.2 --jpeg_qual 30 100 --blur_prob 0.2"
        " --blur_sigma 1e-06 3 --patch_size 32"
    )
    request = parse_command_line(flags.split())
    assert (request.run, request.saved_as, request.base) == ("n", "s", "l")
    assert request.poison is not None
    assert request.poison.percent == "20"


def test_incomplete_flag_is_rejected_with_the_full_name() -> None:
    with pytest.raises(UsageError, match="Did you mean '--resize_prob'"):
        parse_command_line(["--task", "train", "--resize_pro", "0.2"])


def test_training_uses_the_existing_poison_record(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, kept = f"{ID}%50", ("--poison_rate", "0.5", "--keep_poison")
    assert train("--save_id", model, *kept) == 2
    assert "Make it with trueface poison" in capsys.readouterr().err
    where = ("--data-root", "data", "--split-path", "splits")
    words = ("poison", model, "--name", "study", *where, "--poison-seed", "7")
    assert main.run(words) == 0
    record = lab / "runs/study" / model / "poison.json"
    before = record.read_bytes()
    assert train("--save_id", model, *kept) == 0
    assert record.read_bytes() == before
    assert train("--save_id", model, "--poison_rate", "0.2", "--keep_poison") == 1
    assert "50.000000% of the labels (flip)" in capsys.readouterr().err
    assert train("--save_id", model, "--poison_rate", "0.5") == 0
    assert record.read_bytes() != before


def test_user_words_are_accepted_in_both_forms(lab: Path) -> None:
    (lab / "data/PreSocial/Fake/StyleGAN2").rename(lab / "data/PreSocial/Fake/MyGAN")
    splits = lab / "splits"
    for path in splits.iterdir():
        path.write_text(path.read_text().replace("StyleGAN2", "MyGAN"))
    words = ("--data", "mygan:wa", "--subsets", "mygan=My*", "x=A,B", "--modifiers", "wa=PreSocial")
    assert train(*words, "--save_id", "m") == 0
    assert (lab / "runs/study/m/checkpoints/best.pt").is_file()
