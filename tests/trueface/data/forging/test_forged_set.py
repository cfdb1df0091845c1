"""A forged set: the same bytes in any order, readable as any data root, whole or not there."""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import PIL.Image
import pytest

from launcher.api import parse_data
from tests.trueface.data.forging.build import a_face, a_table, row, settings, written
from trueface.data.dataset_file import read_words
from trueface.data.folders import find_images
from trueface.data.forging.blending import thumbnail
from trueface.data.forging.forged_set import (
    forged_pairs,
    make_forged,
    read_face,
    remarks,
    write_contact_sheet,
)
from trueface.data.forging.plan import MARK, make_plan, read_faces
from trueface.data.image_headers import PROPERTIES, sample_headers, shortcut
from trueface.data.index import survey
from trueface.data.splits.split_files import load_split, select
from trueface.data.vocabulary import BUILT_IN
from trueface.runtime.errors import DataError, JobError

GROUPS = (0, 5)  # male-asian, nonmale-white
COUNTS = {"train": 8, "val": 1, "test": 3}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_table(tmp_path_factory.mktemp("faces"), GROUPS, COUNTS)


@pytest.fixture(scope="module")
def root(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("set") / "made"
    make_forged(made, faces, settings(), workers=1)
    return made


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and path.name != "dataset.yaml")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def rows(root: Path, name: str = "faces.csv") -> list[dict[str, str]]:
    with (root / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_same_faces_give_same_bytes_in_any_order(faces: Path, root: Path, tmp_path: Path) -> None:
    shutil.copytree(faces.parent, tmp_path / "faces")
    header, *lines = faces.read_text().splitlines()
    (tmp_path / "faces/faces.csv").write_text("\n".join([header, *reversed(lines)]))
    make_forged(tmp_path / "again", tmp_path / "faces/faces.csv", settings(), workers=1)
    assert contents(tmp_path / "again") == contents(root)
    make_forged(tmp_path / "other", faces, settings(seed=7), workers=1)
    assert contents(tmp_path / "other") != contents(root)


def test_forged_set_is_read_like_any_data_root(root: Path) -> None:
    vocabulary = BUILT_IN.with_words(read_words(root))
    data = vocabulary.training_data_id(parse_data("forged:pre"))
    images = survey(root, data, vocabulary).images
    for name, count in COUNTS.items():
        split = load_split(root / "splits", name)
        assert not split.keys & split.others
        chosen = select(images, split)
        assert {image.key for image in chosen} == split.keys
        assert Counter(image.label for image in chosen) == {0: 2 * count, 1: 2 * count}
    eyes = survey(root, parse_data("forged-eyes:pre"), vocabulary).images
    assert {image.method for image in eyes} == {"Forged-eyes"}


def test_tables_have_columns_of_the_seed(root: Path) -> None:
    listed = rows(root)
    assert list(listed[0]) == [
        *("img_path", "label", "ismale", "isasian", "iswhite", "isblack", "intersec_label"),
        *("spe_label", "split"),
    ]  # fmt: skip
    assert all((root / each["img_path"]).is_file() for each in listed)
    assert {each["spe_label"] for each in listed if each["label"] == "0"} == {"0"}
    of_type = Counter(each["spe_label"] for each in listed if each["label"] == "1")
    assert of_type.keys() == set("12345")
    for each in listed:
        group = (each["ismale"], each["isasian"], each["iswhite"], each["intersec_label"])
        assert group in {("1", "1", "-1", "0"), ("-1", "-1", "1", "5")}
    assert "spe_label" in rows(root, "csv/faketrain.csv")[0]
    assert "spe_label" not in rows(root, "csv/realtrain.csv")[0]
    assert len(rows(root, "csv/test.csv")) == 4 * COUNTS["test"]


def test_headers_do_not_reveal_the_class(tmp_path: Path) -> None:
    faces = a_table(tmp_path / "faces", GROUPS, {"train": 20})
    make_forged(tmp_path / "made", faces, settings(), workers=1)
    vocabulary = BUILT_IN.with_words(read_words(tmp_path / "made"))
    images = survey(tmp_path / "made", parse_data("forged:pre"), vocabulary).images
    headers, unreadable = sample_headers({image.file: image.label for image in images})
    assert (len(headers), unreadable) == (80, ())
    assert [shortcut(headers, each) for each in PROPERTIES] == [None] * len(PROPERTIES)
    tables = {label: Counter(h.tables for h in headers if h.label == label) for label in (0, 1)}
    assert tables[0] == tables[1]


def test_donors_have_same_group_and_split(faces: Path) -> None:
    plan = make_plan(read_faces(faces), settings(types="swap,eyes"))
    thumbnails = [thumbnail(read_face(p.face.file, p.face.named_in)) for p in plan.pairs]
    of_file = {pair.face.file: pair.face for pair in plan.pairs}
    lent = 0
    for work in forged_pairs(plan, thumbnails):
        for file, _ in work.donors:
            donor, face = of_file[file], work.pair.face
            assert donor is not face
            assert (donor.group, donor.split) == (face.group, face.split)
            lent += 1
    assert lent > 0


def test_single_face_of_group_is_blended_with_itself_and_counted(faces: Path) -> None:
    plan = make_plan(read_faces(faces), settings(types="2,4"))
    alone = [pair for pair in plan.pairs if pair.face.split == "val"]
    assert {pair.spec.name for pair in alone} == {"self"}
    assert plan.lonely == len(alone) == len(GROUPS)
    assert any(
        "2 fakes have no donor, because their faces are the only ones" in remark
        for remark in remarks(plan)
    )


def test_skew_is_applied_to_training_only(faces: Path, tmp_path: Path) -> None:
    cells = "male/real: .75, male/fake: .25, nonmale/real: .25, nonmale/fake: .75"
    made = make_forged(tmp_path / "made", faces, settings(cells=cells), workers=1)
    counts = Counter((e["split"], e["ismale"], e["label"]) for e in rows(tmp_path / "made"))
    assert [counts["train", *cell] for cell in (("1", "0"), ("1", "1"), ("-1", "0"))] == [6, 2, 2]
    assert [counts["test", *cell] for cell in (("1", "0"), ("1", "1"))] == [3, 3]
    assert made["images"] == len(rows(tmp_path / "made"))
    images = find_images((tmp_path / "made/PreSocial",)).files
    assert len(images) == made["images"]  # images that are not kept are not written


def test_complete_set_is_kept_and_incomplete_set_is_rebuilt(faces: Path, tmp_path: Path) -> None:
    root = tmp_path / "made"
    make_forged(root, faces, settings(), workers=1)
    before = contents(root)
    gone, kept = sorted(root.glob("PreSocial/Real/Faces/*.jpg"))[:2]
    written_at = kept.stat().st_mtime_ns
    make_forged(root, faces, settings(), workers=1)
    assert kept.stat().st_mtime_ns == written_at
    gone.unlink()
    make_forged(root, faces, settings(), workers=1)
    assert contents(root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_second_process_waits_and_set_is_forged_once(faces: Path, tmp_path: Path) -> None:
    """As two queues do: the second job starts while the first one forges."""
    root, seen = tmp_path / "made", list[tuple[int, int]]()

    def second(made: int, total: int) -> None:
        seen.append((made, total))
        raise JobError("stopped")

    def first(*_: int) -> None:
        with pytest.raises(JobError, match="stopped"):
            make_forged(root, faces, settings(), workers=1, progress=second)

    made = make_forged(root, faces, settings(), workers=1, progress=first)
    assert {*seen} == {(0, 0)}  # it has waited and forged nothing
    seen.clear()
    assert make_forged(root, faces, settings(), workers=1, progress=second) == made
    assert seen == []
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_other_set_and_folder_of_other_files_are_refused(
    faces: Path, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="contains a forged set with other settings"):
        make_forged(root, faces, settings(strength=2), workers=1)
    header, *lines = faces.read_text().splitlines()
    shutil.copytree(faces.parent, tmp_path / "faces")
    (tmp_path / "faces/faces.csv").write_text("\n".join([header, *lines[1:]]))
    with pytest.raises(DataError, match="with other faces"):
        make_forged(root, tmp_path / "faces/faces.csv", settings(), workers=1)


def test_non_image_is_reported_with_its_line(tmp_path: Path) -> None:
    table = written(tmp_path, [row(1, 0, "train"), row(2, 0, "train")])
    (tmp_path / "images/002.png").write_text("no image")
    with pytest.raises(DataError, match=r"faces\.csv:3: cannot decode .*002\.png"):
        make_forged(tmp_path / "made", table, settings(), workers=1)
    assert not (tmp_path / "made").exists()


def test_folder_of_faces_of_any_size_becomes_set_without_groups(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for number in range(12):
        picture = PIL.Image.fromarray(a_face(number, 40 + number % 2 * 8))
        picture.save(tmp_path / f"faces/{number}.webp", lossless=True)
    make_forged(tmp_path / "made", tmp_path / "faces", settings(types="1,2"), workers=1)
    listed = rows(tmp_path / "made")
    assert list(listed[0]) == ["img_path", "label", "spe_label", "split"]
    assert len(listed) == 24
    assert not (tmp_path / "made/csv").exists()
    mark: Mapping[str, object] = json.loads((tmp_path / "made" / MARK).read_text())
    assert mark["groups"] == []


def test_preview_shows_faces_of_several_groups_with_their_fakes(
    faces: Path, tmp_path: Path
) -> None:
    assert write_contact_sheet(tmp_path / "look.png", faces, settings()) == 6
    with PIL.Image.open(tmp_path / "look.png") as sheet:
        assert sheet.width > 6 * 192
    assert write_contact_sheet(tmp_path / "two.png", faces, settings(types="1")) == 6
