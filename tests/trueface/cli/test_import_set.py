import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from PIL import ExifTags
from PIL.PngImagePlugin import PngInfo

from launcher.api import TaskFileError, install_command, load, plan
from tests.trueface.commands import Command
from tests.trueface.conftest import Tree
from tests.trueface.data.imports.conftest import Files as Files
from tests.trueface.data.imports.conftest import faceforensics as faceforensics
from tests.trueface.data.imports.conftest import files as files
from trueface.cli import import_set
from trueface.data.splits.split_files import read_lists
from trueface.runtime import image_files

Output = pytest.CaptureFixture[str]


def two_folders(place: Path) -> Path:
    """Return a folder with 20 real and 20 fake images, each of its own colour."""
    top = place / "pictures"
    for label, name in enumerate(("real", "fake")):
        (top / name).mkdir(parents=True)
        for number in range(20):
            PIL.Image.new("RGB", (8, 8), (number, label, 0)).save(top / name / f"{number}.png")
    return top


def test_missing_include_is_named_for_unknown_word(
    faceforensics: Path, tmp_path: Path, command: Command
) -> None:
    root = tmp_path / "ff"
    command("import", "auto", faceforensics, "--out", root)
    task = tmp_path / "task.yaml"
    start = f"name: ff\ndefaults: {{data_root: {root}, split_path: {root}/splits}}\n"
    for word, hint in (("FF-DF", f"include: {root}/dataset.yaml"), ("gan9", "did you mean")):
        task.write_text(f'{start}train: [{{model: null, data: "{word}:pre"}}]\n')
        with pytest.raises(TaskFileError, match=hint):
            plan(load(str(task)))


@pytest.mark.parametrize(
    "text", ["subsets: 5", "subsets: [FF-DF]", "subsets: {a: b", "[" * 3000, "- subsets", "\xff"]
)
def test_broken_dataset_file_suggests_no_word(text: str, tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text(text, encoding="latin-1")
    task = tmp_path / "task.yaml"
    task.write_text(
        f'name: ff\ndefaults: {{data_root: {tmp_path}}}\ntrain: [{{model: null, data: "FF-DF:pre"}}]\n'
    )
    with pytest.raises(TaskFileError) as caught:
        plan(load(str(task)))
    assert "unknown subset 'FF-DF'" in str(caught.value)
    assert "include:" not in str(caught.value)


def test_split_of_imported_dataset_has_no_group_leaks(
    faceforensics: Path, tmp_path: Path, command: Command
) -> None:
    root = str(tmp_path / "ff")
    command("import", "deepfakebench", faceforensics, "--out", root, "--redraw")
    words = ["splits", root, "--data", "all:c23&all:c40", "--no-content"]
    groups = ["--group-by", f"{root}/groups.json"]
    assert (
        "leak: group in several lists\t0\n"
        in command(*words, "--check", f"{root}/splits", *groups).out
    )


def test_dry_run_prints_the_same_and_writes_nothing(
    tree: Tree, tmp_path: Path, command: Command
) -> None:
    top = tree(f"{label}/{n}.png" for label in ("real", "fake") for n in range(10))
    with chdir(tmp_path):
        words = ["import", "folders", str(top), "--out", "root", "--json"]
        planned = command(*words, "--dry-run").json
        assert not Path("root").exists()
        done = command(*words).json
    assert planned == done | {"dry_run": True}
    assert done["lists"] == {"train": 16, "val": 2, "test": 2}
    assert [source["word"] for source in done["sources"]] == ["data", "realData"]


def test_second_import_adds_images_and_keeps_the_lists(
    tree: Tree, tmp_path: Path, command: Command
) -> None:
    names = [f"{label}/{n}.png" for label in ("real", "fake") for n in range(20)]
    top = tree(names[:30])
    words = ["import", "folders", str(top), "--out", str(tmp_path / "root"), "--json"]
    command(*words)
    before = read_lists(tmp_path / "root" / "splits")
    for name in names[30:]:
        (top / name).write_bytes(b"x")
    record = command(*words).json
    assert (record["new"], record["there"]) == (10, 30)
    after = read_lists(tmp_path / "root" / "splits")
    assert all(set(before[name]) <= set(after[name]) for name in before)
    assert sum(map(len, after.values())) == 40
    assert "models may have been trained on" in command(*words, "--redraw", code=2).err


def test_impossible_imports_are_rejected_before_any_output(
    tree: Tree, tmp_path: Path, command: Command
) -> None:
    top = tree(["real/a.png", "fake/b.png", "other/c.png"])
    splits = tmp_path / "splits"
    splits.mkdir()
    (splits / "train.json").write_text('["x/1"]')
    out = ["--out", str(tmp_path / "root")]
    for words, message in (
        (["folders", str(top), "--out", str(top / "root")], "is in"),
        (
            ["pictures"],
            "missing LAYOUT. Write: trueface import folders pictures --out data/pictures",
        ),
        (["auto", "--out", "x"], "missing DIR. Write: trueface import auto DIR --out x"),
        (["folders", "p"], "missing --out OUT. Write: trueface import folders p --out data/p"),
        (["genimage", str(top), *out], "It fits folders: trueface import folders"),
        (["folders", str(top), *out, "--splits", str(splits)], "contains another split"),
        (
            ["folders", str(top), *out, "--shares", "much"],
            "expected two fractions, such as 0.8,0.1",
        ),
        (
            ["folders", str(top), *out, "--shares", "0.9,0.9"],
            "expected two fractions from 0 to 1 whose sum is at most 1",
        ),
    ):
        assert message in command("import", *words, code=2).err
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("real", "said"),
    [
        ("camera", "it is none of the 2 sources: a, b"),
        ("b", ""),
        ("real", ""),
    ],
)
def test_class_that_gives_no_real_images_is_refused_as_real(
    tree: Tree, tmp_path: Path, command: Command, real: str, said: str
) -> None:
    top = tree(["real/a/1.png", "fake/a/2.png", "fake/b/3.png"])
    words = ("import", "folders", top, "--out", tmp_path / "root", "--real", real)
    assert said in command(*words, code=2 if said else 0).err
    assert (tmp_path / "root").exists() is not bool(said)


def test_layout_whose_folders_decide_refuses_real(
    faceforensics: Path, tmp_path: Path, command: Command
) -> None:
    words = ("import", "faceforensics", faceforensics / "FaceForensics++", "--out", tmp_path / "ff")
    err = command(*words, "--real", "FF-DF", code=2).err
    assert "--real FF-DF has no effect: the folders of the layout faceforensics say" in err


def test_images_outside_all_layouts_are_reported(
    tree: Tree, tmp_path: Path, command: Command
) -> None:
    top = tree(["real/a.png", "fake/b.png", "other/c.png"])
    assert (
        f"1 image files in {top} are not part of the set"
        in command("import", "folders", top, "--out", tmp_path / "root").err
    )


def test_import_of_existing_images_writes_nothing(
    command: Command, tree: Tree, tmp_path: Path
) -> None:
    top = tree(f"{label}/{n}.png" for label in ("real", "fake") for n in range(3))
    words = ["import", "folders", str(top), "--out", str(tmp_path / "root")]
    command(*words)
    record = tmp_path / "root" / "import.json"
    first = record.stat().st_ino
    command(*words)
    assert record.stat().st_ino == first
    (tmp_path / "root" / "dataset.yaml").unlink()
    command(*words)
    assert (tmp_path / "root" / "dataset.yaml").exists()


def swaps_of(people: int) -> list[str]:
    """Return frames of face swaps of neighbours, and of their source videos."""
    pairs = [(a, a + 1 if a % 2 == 0 else a - 1) for a in range(people)]
    return [
        path
        for a, b in pairs
        for path in (f"real/youtube/{a:03}/0.png", f"fake/FaceSwap/{a:03}_{b:03}/0.png")
    ]


def test_both_identities_of_a_face_swap_are_in_one_list(
    tree: Tree, tmp_path: Path, command: Command
) -> None:
    top, root = tree(swaps_of(40)), tmp_path / "root"
    words: list[str | Path] = ["import", "folders", top, "--out"]
    assert "40 folders have names of face swaps, such as FaceSwap/000_001. Use --videos" in (
        command(*words, tmp_path / "loose").err
    )
    said = command(*words, root, "--videos")
    assert said.err == ""
    assert "20 groups, each in one list" in said.out
    lists_of_person: dict[str, set[str]] = {}
    for name, keys in read_lists(root / "splits").items():
        for key in keys:
            for person in key.split("/")[1].split("_"):
                lists_of_person.setdefault(person, set()).add(name)
    assert len(lists_of_person) == 40
    assert all(len(names) == 1 for names in lists_of_person.values())


def test_identical_files_of_both_classes_are_reported(
    tree: Tree, tmp_path: Path, command: Command
) -> None:
    top = tree(f"{label}/{n}.png" for label in ("real", "fake") for n in range(10))
    words: list[str | Path] = ["import", "folders", top, "--dry-run", "--out", tmp_path / "root"]
    assert "real and fake" not in command(*words).err
    shutil.copy(top / "real/3.png", top / "fake/9.png")
    (top / "fake/8.png").unlink()
    (top / "fake/8.png").symlink_to(top / "real/4.png")
    said = command(*words).err
    assert (
        f"warning: 2 images are both real and fake: {top}/real/3.png (real) and "
        f"{top}/fake/9.png (fake) have equal bytes. Remove the wrong file of each pair"
    ) in said


def test_import_that_skips_file_comparison_names_the_command_for_it(
    tree: Tree, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tree(f"{label}/{n}.png" for label in ("real", "fake") for n in range(10))
    words: list[str | Path] = ["import", "folders", top, "--dry-run", "--out", tmp_path / "root"]
    assert "comparing the files" not in command(*words).err
    shutil.copy(top / "real/3.png", top / "fake/9.png")
    monkeypatch.setattr(import_set, "COMPARE_S", -1.0)
    said = command(*words).err
    assert "real and fake" not in said
    assert "warning: comparing the files of both classes stopped after" in said
    assert "trueface audit RUN --seconds 3600" in said


def test_file_with_conflicting_labels_of_two_imports_is_reported(
    tree: Tree, tmp_path: Path, command: Command
) -> None:
    top, out = tree(f"{label}/{n}.png" for label in ("real", "fake") for n in range(10)), "root"
    table = tmp_path / "t.csv"
    table.write_text(f"path,label,source\n{top}/real/3.png,1,other\n")
    with chdir(tmp_path):
        command("import", "folders", top, "--out", out)
        said = command("import", "csv", table, "--out", out).err
    assert f"1 images are both real and fake: {top}/real/3.png (real) and" in said


@pytest.mark.parametrize(
    ("ending", "side", "said"),
    [
        (".png", 12, ""),
        (".bmp", 12, "the file format alone separates fake from real images in 100% of cases"),
        (".png", 13, "the image size alone separates fake from real images in 100% of cases"),
        (".PNG", 12, "the EXIF orientation alone separates fake from real images in 100% of cases"),
    ],
)
def test_file_format_that_reveals_the_class_is_reported(
    tree: Tree, tmp_path: Path, command: Command, ending: str, side: int, said: str
) -> None:
    top = tree(f"{label}/{n}.png" for label in ("real", "fake") for n in range(30))
    for path in sorted((top / "fake").iterdir()):
        with PIL.Image.open(path) as image:
            changed = image.resize((side, side))
        path.unlink()
        exif = PIL.Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        changed.save(path.with_suffix(ending), exif=exif if ending == ".PNG" else b"")
    found = command("import", "folders", top, "--out", tmp_path / "root").err
    assert ("alone separates" in found) is bool(said)
    assert said in found


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_traits_that_detectors_do_not_read_are_one_warning_about_their_source(
    tree: Tree, tmp_path: Path, command: Command, form: str
) -> None:
    top = tree(f"{label}/{n}.png" for label in ("real", "fake") for n in range(30))
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Canon", 6
    texts = PngInfo()
    texts.add_text("parameters", "a face")
    for path in sorted(top.rglob("*.png")):
        with PIL.Image.open(path) as image:
            copy = image.copy()
        path.unlink()
        said: dict[str, Any] = {"exif": exif} if path.parent.name == "real" else {}
        if form == "PNG":
            said = {} if path.parent.name == "real" else {"pnginfo": texts}
        copy.save(path.with_suffix(f".{form.lower()}"), form, **said)
    found = command("import", "folders", top, "--out", tmp_path / "root").err
    (line,) = (line for line in found.splitlines() if "alone separates" in line)
    names = (
        ("the metadata",) if form == "PNG" else ("the EXIF orientation", "the metadata", "software")
    )
    assert all(name in line for name in names)
    if form == "PNG":
        assert "Check where the files of both classes come from" in line
        assert "otherwise the model learns" not in line
    else:
        assert "Turn the pixels of all files upright before training" in line


def test_files_that_are_passed_over_are_counted_by_reason(tmp_path: Path, command: Command) -> None:
    top = two_folders(tmp_path)
    for name in ("a.txt", "b.TXT", "real/clip.mov", "LICENSE", ".DS_Store", "real/.hidden.png"):
        (top / name).write_bytes(b"0")
    (top / ".git").mkdir()
    (top / ".git/config").write_bytes(b"0")
    PIL.Image.new("RGB", (8, 8)).save(top / "stray.png")
    printed = command("import", "folders", top, "--out", tmp_path / "data")
    assert (
        "skipped: 2 .txt, 1 without a suffix, 1 .mov, 1 .png outside the layout, 2 hidden\n"
        in printed.out
    )
    record = command("import", "folders", top, "--out", tmp_path / "data", "--json").json
    assert record["passed_over"] == [
        {"reason": reason, "suffix": suffix, "files": files, "example": str(top / example)}
        for reason, suffix, files, example in (
            ("not_an_image", ".txt", 2, "a.txt"),
            ("not_an_image", "", 1, "LICENSE"),
            ("not_an_image", ".mov", 1, "real/clip.mov"),
            ("outside_layout", ".png", 1, "stray.png"),
            ("hidden", "", 2, ".DS_Store"),
        )
    ]


def test_tables_of_a_layout_are_not_passed_over(
    faceforensics: Path, tmp_path: Path, command: Command
) -> None:
    (faceforensics / "notes.txt").write_bytes(b"0")
    out = command("import", "auto", faceforensics, "--out", tmp_path / "ff").out
    assert "skipped: 1 .txt\n" in out


def test_set_without_other_files_has_no_such_line(tmp_path: Path, command: Command) -> None:
    printed = command(
        "import", "folders", two_folders(tmp_path), "--out", tmp_path / "data", "--json"
    )
    assert printed.json["passed_over"] == []
    again = command("import", "folders", tmp_path / "pictures", "--out", tmp_path / "data")
    assert "skipped" not in again.out


def test_unreadable_image_of_the_sample_is_named(tmp_path: Path, command: Command) -> None:
    top = two_folders(tmp_path)
    (top / "real/broken.jpg").write_bytes(b"no image")
    err = command("import", "folders", top, "--out", tmp_path / "data").err
    assert (
        f"warning: 1 of 41 sampled images cannot be read, such as {top}/real/broken.jpg: no JPEG, PNG"
        in err
    )


def test_import_without_a_reader_leaves_heic_out_and_a_later_one_adds_it(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heif` is not installed")
    pillow_heif.register_heif_opener()
    top = two_folders(tmp_path)
    for number in range(3):
        PIL.Image.new("RGB", (64, 64), (number, 0, 0)).save(top / f"real/new{number}.heic")
    with monkeypatch.context() as absent:
        absent.setitem(image_files._MODULES, "HEIF", "no_such_module")
        image_files._reader_fault.cache_clear()
        printed = command("import", "folders", top, "--out", tmp_path / "data")
    image_files._reader_fault.cache_clear()
    assert "40 images linked" in printed.out
    assert "skipped: 3 .heic without a reader\n" in printed.out
    assert (
        f"warning: 3 HEIF files cannot be read here, such as {top}/real/new0.heic. Install the reader "
        "and import again: "
    ) in printed.err
    assert install_command("heif") in printed.err
    printed = command("import", "folders", top, "--out", tmp_path / "data")
    assert "3 images linked, 40 existed already" in printed.out
    assert "skipped" not in printed.out
