import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.trueface.commands import Command
from tests.trueface.conftest import Tree
from trueface.__main__ import main
from trueface.cli import main as cli
from trueface.cli import run_here


@pytest.fixture
def lab(tree: Tree, tmp_path: Path) -> Iterator[Path]:
    tree(
        f"PreSocial/{method}/{n:05d}.png"
        for method in ("Fake/StyleGAN2", "Real/FFHQ")
        for n in range(20)
    )
    with chdir(tmp_path):
        yield tmp_path


def test_help_imports_neither_torch_nor_pydantic() -> None:
    program = (
        "import sys; from trueface.cli import main as cli; code = cli.run(['--help']);"
        "sys.exit(code or any(name in sys.modules for name in ('torch', 'pydantic')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0
    assert b"unlearn" in done.stdout


def test_help_of_no_command_imports_torch_and_that_of_the_leaderboard_no_numpy() -> None:
    program = (
        "import sys; from trueface.cli import main as cli; cli.run(['unlearned', '--help']);"
        "heavy = {'numpy', 'scipy', 'sklearn'} & {*sys.modules};"
        "[cli.run([name, '--help']) for name in sys.argv[1:]];"
        "sys.exit(bool(heavy) or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, *sorted(cli.COMMANDS)]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_progress_is_printed_as_occasional_lines_without_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(run_here, "time", SimpleNamespace(monotonic=lambda: now))
    with run_here.with_progress_bar("check") as (progress, _):
        for at, step, total in ((5, 1, 9), (11, 3, 9), (12, 4, 9), (20.9, 5, 9), (21, 5, None)):
            now = at
            progress(step=step, total=total, loss=0.12345, of="val", rows=2048)
    numbers = "loss 0.123 of val rows 2048"
    assert capfd.readouterr().err == f"check 3/9 {numbers} left 18 s\ncheck 5/None {numbers}\n"


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_each_command_has_help(name: str, command: Command) -> None:
    assert "usage: trueface" in command(name, "--help").out.lower()  # argparse begins small


@pytest.mark.parametrize("name", ["unlearn", "forget"])
def test_long_help_shows_common_options_and_help_all_shows_all(name: str, command: Command) -> None:
    short, every = command(name, "--help").out, command(name, "--help-all").out
    assert len(short.splitlines()) <= 140
    assert "--unlearn-epochs INTEGER" in short
    assert "--help-all" in short
    assert "--scrub-alpha FLOAT" not in short
    assert "--scrub-alpha FLOAT" in every
    assert "default: None" not in every
    assert command(name, "MODEL", "--help-all").out == every


def test_setting_options_show_their_types(command: Command) -> None:
    every = command("unlearn", "--help-all").out
    for text in ("--seed INTEGER", "--cache [auto|decoded|none]", "--find / --no-find"):
        assert text in every
    assert "--help-all" not in command("sample", "--help").out


def test_options_are_accepted_with_underscores(command: Command, lab: Path) -> None:
    command("splits", "data", "--out", "splits", "--group_by", "similar")
    words = ["--data_root", "data", "--split_path=splits", "--poison_per", "subset"]
    command("poison", "gan2:pre%50", *words)
    assert "--data-root" in command("poison", "gan2:pre%50", code=2).err


def test_closed_pipe_exits_with_141() -> None:
    program = "from trueface.cli.main import main; main(['import', '--help'])"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ImportError('libheif.so.1: cannot open')", "libheif.so.1: cannot open"),
        ("import no_such_module_below_it", "No module named 'no_such_module_below_it'"),
        ("from json import no_such_name", "cannot import name 'no_such_name' from 'json'"),
    ],
)
def test_installed_package_that_cannot_be_imported_is_named_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    (tmp_path / "broken_extra").mkdir()
    (tmp_path / "broken_extra/__init__.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        # as one of our modules imports it
        code = cli.exit_code(lambda: exec("import broken_extra", {"__name__": "trueface.data.a"}))
    assert code == 3
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: the package broken_extra cannot be imported: {reason}")
    assert len(printed.splitlines()) == 1
    with pytest.raises(ImportError):
        cli.exit_code(lambda: exec("from trueface import lost", {"__name__": "trueface.data.a"}))


def test_help_that_needs_no_missing_package_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "PACKAGES", (*cli.PACKAGES, "absent_package"))
    absence = "error: packages are not installed: absent_package. Install them: "
    for words in (["pretrain", "--help"], ["generate", "-h"], ["--version"]):
        assert cli.run(words) == 0, words
        assert capsys.readouterr().err == ""
    assert cli.run(["pretrain"]) == 3
    assert capsys.readouterr().err.startswith(absence)
    # a help page whose module needs the package
    code = cli.exit_code(lambda: exec("import absent_package", {"__name__": "trueface.data.a"}))
    printed = capsys.readouterr().err
    assert (code, printed.startswith(absence), len(printed.splitlines())) == (3, True, 1)


def test_sample_is_created_with_its_splits(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    root = tmp_path / "sample"
    words = ["sample", str(root), "--size", "32", "--train", "2", "--val", "2", "--test", "2"]
    assert cli.run(words) == cli.run(words) == 0
    assert capsys.readouterr().out == f"{root}\n{root}\n"
    assert len(json.loads((root / "splits/train.json").read_text())) == 4
    assert len(list(root.glob("PreSocial/**/*.png"))) == 12
    assert "other settings" in command(*words, "--seed", "7", code=2).err


def test_poison_writes_the_record_of_the_planned_model(lab: Path, command: Command) -> None:
    model = "gan2:pre%50"
    where = ["--data-root", "data", "--split-path", "splits"]
    command("splits", "data", "--out", "splits")
    said = command("poison", model, "--name", "study", *where, "--poison-per", "subset")
    record = json.loads((lab / "runs/study" / model / "poison.json").read_text())
    assert (len(record["keys"]), record["total"]) == (16, 32)
    assert "flipped_fake\t8" in said.out


def test_poison_writes_one_choice_for_several_models(lab: Path, command: Command) -> None:
    models = ("gan2:pre%50@lr=0.1", "gan2:pre%50@lr=0.2", "fb:pre#gan2:pre%50")
    words = [
        "poison",
        models[0],
        "--name",
        "study",
        "--data-root",
        "data",
        "--split-path",
        "splits",
    ]
    words += [word for model in models[1:] for word in ("--for", model)]
    command("splits", "data", "--out", "splits")
    command(*words)
    records = {(lab / "runs/study" / model / "poison.json").read_bytes() for model in models}
    assert len(records) == 1
    assert (
        "--for gan2:pre%20: its data or poison differs"
        in command(*words, "--for", "gan2:pre%20", code=2).err
    )


def test_poisoned_model_is_unlearned_with_commands(command: Command, lab: Path) -> None:
    torch.set_num_threads(1)
    model = "gan2:pre&real:pre%50"
    small = "--data_root data --split_path splits --model slim18 --weights none --num_epochs 1"
    small += " --resize_size 12 --patch_size 12 --batch_size 8"
    command("splits", "data", "--out", "splits")
    words = ["--name", "study", "--task", "train", "--data", model.removesuffix("%50")]
    words += ["--poison_rate", "0.5", "--save_weights", "--device", "cpu", "--num_threads", "0"]
    assert main([*words, *small.split()]) == 0
    words = ["unlearn", f"{model}~relabel", "--name", "study", "--device", "cpu"]
    command(*words, *small.replace("_", "-").split())
    assert (lab / f"runs/study/{model}~relabel/checkpoints/best.pt").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["unlaern"], "error: no command 'unlaern'. Did you mean 'unlearn'?"),
        (["train"], "To train and test a detector, use python -m trueface"),
        (["results"], "It is a command of launcher: launcher results"),
        (["splits", "nowhere", "--out", "x"], "data folder nowhere does not exist"),
        (["splits", "data"], "--out"),
        (
            ["predict", "--model"],
            "option '--model' requires an argument. See: trueface predict --help",
        ),
        (["splits", "data", "--out", "x", "--data", "gna2:pre"], "Did you mean 'gan2'"),
        (["poison", "gan2:pre"], "has no poison"),
        (["poison", "gan2:pre%50"], "--data-root is required"),
        (["poison", "gan2"], "expected subset:modifier"),
        (["unlearn", "gan2:pre%50"], "has no unlearning method"),
        (["unlearn", "gan2:pre%50~rebalel"], "Did you mean 'relabel'"),
        (["unlearn", "sd:fb%5~retrain", "--data-root", "x", "--split-path", "y"], "poison record"),
        (
            ["poison", "sd:fb%5", "--name", "../x", "--data-root", "x", "--split-path", "y"],
            "outside",
        ),
    ],
)
def test_impossible_commands_exit_with_code_2(
    lab: Path, command: Command, words: list[str], said: str
) -> None:
    assert said in command(*words, code=2).err
    assert not (lab / "runs").exists()


def test_unwritable_folder_is_a_machine_error(command: Command, lab: Path) -> None:
    (lab / "file").touch()
    command("splits", "data", "--out", "file/splits", code=3)


def test_module_accepts_commands_and_classic_flags(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["splits", "data", "--out", "splits"]) == 0
    assert main(["--task", "tarin"]) == 2
    assert "Did you mean 'train'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["Real/FFHQ"], []),  # without folders of modifiers
        (["Fake", "Real"], []),  # folders of bare classes
        (
            ["WhatsApp/Fake/MyGAN"],  # a folder of the user's own words
            ["--data", "mine:wa", "--subsets", "mine=MyGAN", "--modifiers", "wa=WhatsApp"],
        ),
    ],
)
def test_splits_of_other_data_roots_contain_their_images(
    tree: Tree, tmp_path: Path, command: Command, folders: list[str], words: list[str]
) -> None:
    root = tree(f"{folder}/{n:05d}.png" for folder in folders for n in range(10))
    told = command("splits", root, "--out", tmp_path / "splits", *words)
    assert told.out == "train\t8\nval\t1\ntest\t1\n"
