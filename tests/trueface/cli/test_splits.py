import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.trueface.commands import Command
from tests.trueface.conftest import Tree
from trueface.data.splits.split_files import read_lists


@pytest.fixture
def lab(tree: Tree, tmp_path: Path) -> Iterator[Path]:
    tree(
        f"PreSocial/{method}/p{n // 5}_{n:05d}.png"
        for method in ("Fake/StyleGAN2/a", "Fake/StyleGAN2/b", "Real/FFHQ")
        for n in range(20)
    )
    with chdir(tmp_path):
        yield tmp_path


def test_counts_go_to_stdout_and_findings_to_stderr(lab: Path, command: Command) -> None:
    said = command("make_splits", "data", "--out", "splits")
    assert said.out == "train\t48\nval\t6\ntest\t6\n"
    assert said.err == "found 60 images of all:pre\n"
    said = command("splits", "data", "--out", "split.json", "--json")
    counts = {"schema": 1, "train": 48, "val": 6, "test": 6}
    assert said.json == counts
    assert read_lists(lab / "split.json") == read_lists(lab / "splits")


def test_shares_and_common_shuffle_can_be_set(lab: Path, command: Command) -> None:
    words = ["splits", "data", "--out", "splits", "--shares", "0.5,0.5", "--no-stratify"]
    said = command(*words)
    assert said.out == "train\t30\nval\t30\ntest\t0\n"
    assert "the list test is empty" in said.err


def test_groups_stay_together_and_the_check_confirms_it(lab: Path, command: Command) -> None:
    rule = ["--group-by", "/(p[0-9]+)_"]
    assert (
        "4 groups of 60 keys; 0 keys without a group"
        in command("splits", "data", "--out", "a", "--shares", "0.5,0.25", *rule).err
    )
    assert (
        "leak: group in several lists\t0\n" in command("splits", "data", "--check", "a", *rule).out
    )
    command("splits", "data", "--out", "b")
    said = command("splits", "data", "--check", "b", *rule, code=1)
    assert "leak: group in several lists\t4\tp0 in train and" in said.out
    assert "4 leaks between the lists of b" in said.err


def test_face_swap_identities_stay_in_one_list_and_are_checked(
    tree: Tree, tmp_path: Path, command: Command
) -> None:
    pairs = [f"{2 * n:03}_{2 * n + 1:03}" for n in range(10)]
    tree(
        [f"PreSocial/Real/FFHQ/{person:03}/1.png" for person in range(20)]
        + [f"PreSocial/Fake/StyleGAN2/{pair}/1.png" for pair in pairs]
    )
    rules = ["--group-by", r"/(\d{3})(?:_\d{3})?/", "--group-by", r"/(?:\d{3}_)(\d{3})/"]
    with chdir(tmp_path):
        words = ["splits", "data", "--no-content", "--check"]
        said = command("splits", "data", "--out", "apart", *rules)
        assert "10 groups of 30 keys; 0 keys without a group" in said.err
        found = command(*words, "apart", *rules)
        assert "leak: group in several lists\t0\n" in found.out
        lists = {"train": ["StyleGAN2/000_001/1"], "test": ["FFHQ/001/1"]}
        Path("torn.json").write_text(json.dumps(lists))
        found = command(*words, "torn.json", *rules, code=1)
        assert "leak: group in several lists\t1\t000 in train and test\n" in found.out


def test_group_larger_than_each_list_is_reported(lab: Path, command: Command) -> None:
    said = command("splits", "data", "--out", "a", "--group-by", "/(p)[0-9]+_")
    assert "warning: group p has 60 of 60 keys, more than the largest list should have" in said.err


def test_existing_split_is_not_replaced_unless_forced(lab: Path, command: Command) -> None:
    words = ["splits", "data", "--out", "splits", "--seed"]
    command(*words, "1")

    def file_identity() -> tuple[int, int]:
        status = (lab / "splits/train.json").stat()  # not when it was read last
        return status.st_ino, status.st_mtime_ns

    before = file_identity()
    said = command(*words, "1")
    assert file_identity() == before
    assert "already contains this split" in said.err
    assert "--force" in command(*words, "2", code=2).err
    assert file_identity() == before
    command(*words, "2", "--force")
    assert file_identity() != before


@pytest.mark.parametrize("out", ["splits", "split.json"])
def test_lists_of_two_splits_are_never_mixed(lab: Path, command: Command, out: str) -> None:
    command("splits", "data", "--out", out)
    key = read_lists(lab / out)["train"][0]
    (lab / "old").mkdir()
    (lab / "old/test.json").write_text(json.dumps([key]))
    assert "--force" in command("splits", "--from", "old", "--out", out, code=2).err
    assert len(read_lists(lab / out)) == 3
    command("splits", "--from", "old", "--out", out, "--force")
    assert read_lists(lab / out) == {"test": [key]}


def test_exact_key_takes_precedence_over_other_matches(
    command: Command, lab: Path, tree: Tree
) -> None:
    tree(["PreSocial/Real/FFHQ/00002.png", "PreSocial/Real/FFHQ/00001_b.png"])
    (lab / "old").mkdir()
    keys = ["FFHQ/00001", "FFHQ/00001_b", "FFHQ/00002"]
    (lab / "old/train.json").write_text(json.dumps(keys))
    command("splits", "data", "--from", "old", "--out", "new")
    assert read_lists(lab / "new") == {"train": keys[1:]}


def test_broken_lists_count_as_another_split(command: Command, lab: Path) -> None:
    (lab / "splits").mkdir()
    (lab / "splits/val.json").write_text("[")
    command("splits", "data", "--out", "splits", code=2)
    command("splits", "data", "--out", "splits", "--force")


def test_split_is_reduced_with_and_without_images(lab: Path, command: Command) -> None:
    command("splits", "data", "--out", "splits")
    command("splits", "data", "--out", "fresh", "--subsample", "10")
    small = ["--from", "splits", "--subsample"]
    command("splits", *small, "10", "--out", "small")
    assert read_lists(lab / "small") == read_lists(lab / "fresh")
    shutil.rmtree(lab / "data/PreSocial/Real")
    assert (
        command("splits", "data", *small, "0.5", "--out", "half.json").out
        == "train\t16\nval\t2\ntest\t2\n"
    )


def test_image_in_two_lists_is_found(lab: Path, command: Command) -> None:
    command("splits", "data", "--out", "splits")
    lists = read_lists(lab / "splits")
    files = [
        next((lab / "data/PreSocial").glob(f"*/{lists[name][0]}.png")) for name in ("train", "test")
    ]
    shutil.copy(*files)
    command("splits", "data", "--check", "splits", "--no-content")
    content = json.loads(
        command("splits", "data", "--check", "splits", "--json", code=1).out.splitlines()[-1]
    )
    assert content["pictures"]["same"] == [
        [f"{name}:{lists[name][0]}" for name in ("train", "test")]
    ]


def test_identical_images_can_be_kept_together(lab: Path, command: Command) -> None:
    first, *others = sorted((lab / "data/PreSocial/Real/FFHQ").iterdir())
    for other in others[::2]:
        shutil.copy(first, other)
    command("splits", "data", "--out", "a")
    assert "--group-by" in command("splits", "data", "--check", "a", code=1).err
    rules = ["--group-by", "pixels", "--group-by", "StyleGAN2/./(p[0-9]+)_"]
    assert (
        "5 groups of 51 keys; 9 keys without a group"
        in command("splits", "data", "--out", "b", *rules).err
    )
    command("splits", "data", "--check", "b", *rules)


def test_near_duplicates_in_two_lists_are_leaks_and_can_be_kept_together(
    lab: Path, command: Command
) -> None:
    coarse = np.random.default_rng(5).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(coarse).resize((48, 48), PIL.Image.Resampling.BICUBIC)
    faces = sorted((lab / "data/PreSocial/Real/FFHQ").iterdir())
    for number, face in enumerate(faces):
        picture.point(lambda value, by=number: value * (1 - 0.01 * by)).save(face)
    command("splits", "data", "--out", "a")
    command("splits", "data", "--check", "a")
    out, err = command("splits", "data", "--check", "a", "--similar", code=1)
    assert "leak: nearly the same in two lists\t68\ttrain:FFHQ/" in out  # 16 × 2 + 16 × 2 + 2 × 2
    assert "--group-by" in err
    assert "similar" in err
    command("splits", "data", "--out", "b", "--group-by", "similar")
    command("splits", "data", "--check", "b", "--similar")


@pytest.mark.parametrize("ending", ["webp", "bmp", "gif", "tif", "tiff", "jfif"])
def test_all_decodable_formats_are_read_in_folders(
    lab: Path, command: Command, ending: str
) -> None:
    for file in (lab / "data/PreSocial/Fake").rglob("*.png"):
        PIL.Image.open(file).save(
            file.with_suffix(f".{ending}"), "JPEG" * (ending == "jfif") or None
        )
        file.unlink()
    assert command("splits", "data", "--out", "splits") == (
        "train\t48\nval\t6\ntest\t6\n",
        "found 60 images of all:pre\n",
    )


def test_unread_files_and_dangling_links_are_named(lab: Path, command: Command) -> None:
    real = lab / "data/PreSocial/Real/FFHQ"
    fake = lab / "data/PreSocial/Fake"
    for number in range(3):
        (real / f"{number}.mov").write_bytes(b"0")
    (real / "notes.txt").write_text("of the photographer")
    (real / ".hidden").write_text("")
    (real / "99999.png").symlink_to("nowhere.png")
    (fake / "StyleGAN2/c").symlink_to("nowhere")
    out, err = command("splits", "data", "--out", "splits")
    assert out == "train\t48\nval\t6\ntest\t6\n"
    assert "warning: 4 files ignored: 3 .mov, 1 .txt; images end in .avif, .bmp, .gif" in err
    assert f"1 broken links ignored: {Path('data/PreSocial/Fake/StyleGAN2/c')}" in err
    assert "warning: skipped 1 images that are broken links, such as" in err
    assert f"{real.relative_to(lab)}/99999.png, which points to nowhere.png" in err
    assert "FFHQ/99999" not in read_lists(lab / "splits")["train"]


def test_split_omits_dangling_links_and_its_check_counts_them_as_missing(
    lab: Path, command: Command
) -> None:
    command("splits", "data", "--out", "splits")
    (key, *_) = [key for key in read_lists(lab / "splits")["train"] if key.startswith("FFHQ/")]
    image = lab / f"data/PreSocial/Real/{key}.png"
    image.unlink()
    image.symlink_to("nowhere.png")
    out, err = command("splits", "data", "--from", "splits", "--out", "kept")
    assert "warning: skipped 1 images that are broken links" in err
    assert out == "train\t47\nval\t6\ntest\t6\n"
    assert key not in read_lists(lab / "kept")["train"]
    out, err = command("splits", "data", "--check", "splits")
    assert "warning: skipped 1 images that are broken links" in err
    assert f"keys without a file\t1\ttrain:{key}\n" in out
    assert "unreadable files\t0\n" in out


def test_split_with_one_class_causes_a_note(lab: Path, command: Command) -> None:
    for file in (lab / "data/PreSocial/Fake").rglob("*.png"):
        file.rename(file.with_suffix(".mov"))
    err = command("splits", "data", "--out", "splits").err
    assert "40 files ignored: 40 .mov" in err
    assert "warning: no fake image" in err
    assert "no images of gan2:pre" in (
        err := command("splits", "data", "--data", "gan2:pre", "--out", "gan", code=2).err
    )
    assert "40 .mov ignored" in err


def test_list_without_a_class_or_source_is_reported(
    tree: Tree, tmp_path: Path, command: Command
) -> None:
    names = [*(f"Fake/StyleGAN2/{n}" for n in range(20)), "Fake/StyleGAN3/1", "Real/FFHQ/1"]
    root = tree(f"PreSocial/{name}.png" for name in names)
    made = command("splits", root, "--out", tmp_path / "splits").err
    checked = command("splits", root, "--check", tmp_path / "splits", "--no-content").err
    for err in (made, checked):
        assert "the list test has no" not in err.replace("the list test has no images of", "")
        assert "warning: the list train has no real images." in err
        assert "warning: the list val has no real images." in err
        assert "warning: the list train has no images of 2 of 3 sources, such as FFHQ\n" in err


def test_layout_can_be_given(lab: Path, tree: Tree, command: Command) -> None:
    tree(f"TrueFace_PreSocial/Fake/StyleGAN2/{n:05d}.png" for n in range(10))
    assert "--layout" in command("splits", "data", "--out", "splits", code=2).err
    assert command("splits", "data", "--out", "splits", "--layout", "trueface").out.startswith(
        "train\t8\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "x"], "DATA_ROOT is required"),
        (["data", "--out", "x", "--shares", "a"], "expected two fractions, such as 0.8,0.1"),
        (["data", "--out", "x", "--shares", "0.8,0.3"], "sum"),
        (["data", "--out", "x", "--shares", "nan,0"], "expected two fractions"),
        (["data", "--out", "x", "--subsample", "many"], "a fraction such as 0.1"),
        (["data", "--out", "x", "--subsample", "1.5"], "cannot take"),
        (["data", "--out", "x", "--group-by", "zzz([0-9])"], "no group for any"),
        (["--from", "data", "--out", "x"], "no lists found in data"),
        (["--from", "x", "--out", "y", "--shares", "1,0"], "--from keeps"),
        (["data", "--check", "x", "--out", "y"], "--check writes nothing"),
        (["data", "--check", "nowhere"], "split nowhere does not exist"),
    ],
)
def test_impossible_splits_are_rejected_and_nothing_is_written(
    lab: Path, command: Command, words: list[str], said: str
) -> None:
    assert said in command("splits", *words, code=2).err
    assert [path.name for path in lab.iterdir()] == ["data"]


def test_groups_are_counted_by_class_and_small_ones_are_named(lab: Path, command: Command) -> None:
    files = sorted(path.relative_to("data") for path in Path("data").rglob("*.png"))
    rows = [f"{file.as_posix()},{'ab'[int(file.stem[-1]) % 2]}" for file in files]
    (lab / "skin.csv").write_text("\n".join(["img_path,skin", *rows]) + "\n")
    words = ["splits", "data", "--attributes", "skin.csv", "--groups-by", "skin"]
    shares = ["--shares", "0.5,0.25", "--balance", "cells"]
    said = command(*words, "--out", "splits", *shares)
    assert "list\tgroup\treal\tfake\ntrain\ta\t5\t10\ntrain\tb\t5\t10\n" in said.out
    assert "fewer than 30 images of a class in train: a (5 real, 10 fake), b (5 real" in said.err
    told = command(*words, "--check", "splits", "--no-content", "--json").json
    assert told["groups"]["test"] == {"a": {"real": 3, "fake": 5}, "b": {"real": 3, "fake": 5}}
    assert told["few"]["train"] == ["a", "b"]
    assert (
        "--balance cells requires --attributes"
        in command(*words[:2], "--out", "other", "--balance", "cells", code=2).err
    )
    assert (
        "unknown column of groups 'intersec'" in command(*words[:4], "--out", "other", code=2).err
    )
