import json
from contextlib import chdir
from pathlib import Path

import pytest

from launcher.api import TaskFileError, load, plan
from tests.trueface.conftest import Tree
from tests.trueface.data.imports.conftest import Files as Files
from tests.trueface.data.imports.conftest import faceforensics as faceforensics
from tests.trueface.data.imports.conftest import files as files
from trueface.cli import main
from trueface.data.splits import read_lists

Output = pytest.CaptureFixture[str]


def test_a_set_of_videos_can_be_planned_by_its_own_words(
    faceforensics: Path, tmp_path: Path, capsys: Output
) -> None:
    root = tmp_path / "ff"
    assert main.run(["import", "auto", str(faceforensics), "--out", str(root)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "FF-DF:c23&FF-DF:c40    fake      36   12    12\n" in printed.out
    assert f"include: {root}/dataset.yaml" in printed.out
    task = tmp_path / "task.yaml"
    task.write_text(
        f'include: "{root}/dataset.yaml"\n'
        "name: ff\n"
        "defaults: {model: slim18, weights: none}\n"
        'train: [{model: null, data: "FF-DF:c23"}]\n'
        'autotest: ["FF-F2F:c40&realFF:c40"]\n'
    )
    study = plan(load(str(task)))
    assert [job.name for job in study.jobs] == [
        "train/FF-DF:c23",
        "test/FF-DF:c23/FF-F2F:c40&realFF:c40",
    ]


def test_a_forgotten_include_is_named_where_its_word_is_unknown(
    faceforensics: Path, tmp_path: Path, capsys: Output
) -> None:
    root = tmp_path / "ff"
    assert main.run(["import", "auto", str(faceforensics), "--out", str(root)]) == 0
    task = tmp_path / "task.yaml"
    start = f"name: ff\ndefaults: {{data_root: {root}, split_path: {root}/splits}}\n"
    for word, hint in (("FF-DF", f"include: {root}/dataset.yaml"), ("gan9", "did you mean")):
        task.write_text(f'{start}train: [{{model: null, data: "{word}:pre"}}]\n')
        with pytest.raises(TaskFileError, match=hint):
            plan(load(str(task)))


def test_the_split_of_an_import_has_no_leak_by_its_groups(
    faceforensics: Path, tmp_path: Path, capsys: Output
) -> None:
    root = str(tmp_path / "ff")
    assert main.run(["import", "deepfakebench", str(faceforensics), "--out", root, "--redraw"]) == 0
    capsys.readouterr()
    words = ["splits", root, "--data", "all:c23&all:c40", "--no-content"]
    groups = ["--group-by", f"{root}/groups.json"]
    assert main.run([*words, "--check", f"{root}/splits", *groups]) == 0
    assert "leak: group in several lists\t0\n" in capsys.readouterr().out


def test_a_dry_run_says_the_same_and_writes_nothing(
    tree: Tree, tmp_path: Path, capsys: Output
) -> None:
    top = tree(f"{label}/{n}.png" for label in ("real", "fake") for n in range(10))
    with chdir(tmp_path):
        words = ["import", "folders", str(top), "--out", "root", "--json"]
        assert main.run([*words, "--dry-run"]) == 0
        planned = json.loads(capsys.readouterr().out)
        assert not Path("root").exists()
        assert main.run(words) == 0
        done = json.loads(capsys.readouterr().out)
    assert planned == done | {"dry_run": True}
    assert done["lists"] == {"train": 16, "val": 2, "test": 2}
    assert [source["word"] for source in done["sources"]] == ["data", "realData"]


def test_a_second_import_adds_and_keeps_the_lists(
    tree: Tree, tmp_path: Path, capsys: Output
) -> None:
    names = [f"{label}/{n}.png" for label in ("real", "fake") for n in range(20)]
    top = tree(names[:30])
    words = ["import", "folders", str(top), "--out", str(tmp_path / "root"), "--json"]
    assert main.run(words) == 0
    before = read_lists(tmp_path / "root" / "splits")
    for name in names[30:]:
        (top / name).write_bytes(b"x")
    assert main.run(words) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[1])
    assert (record["new"], record["there"]) == (10, 30)
    after = read_lists(tmp_path / "root" / "splits")
    assert all(set(before[name]) <= set(after[name]) for name in before)
    assert sum(map(len, after.values())) == 40
    assert main.run([*words, "--redraw"]) == 2
    assert "models may have been trained on them" in capsys.readouterr().err


def test_what_cannot_be_is_refused_before_anything_is_written(
    tree: Tree, tmp_path: Path, capsys: Output
) -> None:
    top = tree(["real/a.png", "fake/b.png", "other/c.png"])
    splits = tmp_path / "splits"
    splits.mkdir()
    (splits / "train.json").write_text('["x/1"]')
    out = ["--out", str(tmp_path / "root")]
    for words, message in (
        (["folders", str(top), "--out", str(top / "root")], "lies in"),
        (["genimage", str(top), *out], "it fits folders: trueface import folders"),
        (["folders", str(top), *out, "--splits", str(splits)], "holds another split"),
        (["folders", str(top), *out, "--shares", "much"], "write it as 0.8,0.1"),
        (["folders", str(top), *out, "--shares", "0.9,0.9"], "so is their sum"),
    ):
        assert main.run(["import", *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "root").exists()


def test_images_that_no_layout_reads_are_told(tree: Tree, tmp_path: Path, capsys: Output) -> None:
    top = tree(["real/a.png", "fake/b.png", "other/c.png"])
    assert main.run(["import", "folders", str(top), "--out", str(tmp_path / "root")]) == 0
    assert f"1 image files in {top} are no part of the set" in capsys.readouterr().err


def test_an_import_of_what_is_there_writes_nothing(tree: Tree, tmp_path: Path) -> None:
    top = tree(f"{label}/{n}.png" for label in ("real", "fake") for n in range(3))
    words = ["import", "folders", str(top), "--out", str(tmp_path / "root")]
    assert main.run(words) == 0
    record = tmp_path / "root" / "import.json"
    first = record.stat().st_ino
    assert main.run(words) == 0
    assert record.stat().st_ino == first
    (tmp_path / "root" / "dataset.yaml").unlink()
    assert main.run(words) == 0
    assert (tmp_path / "root" / "dataset.yaml").exists()
