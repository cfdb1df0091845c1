"""Imports of image sets: reading of folders, names and splits, and the written files."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.trueface.data.imports.conftest import PAIRS, Files, ff_description, ff_frames
from trueface.data.dataset_file import read_words, video_sources, write_video_sources
from trueface.data.imports import registry
from trueface.data.imports.arrangement import (
    arrange,
    assign_words,
    folder_of,
    make_import_lists,
    vocabulary_word,
)
from trueface.data.imports.csv_table import CsvTable
from trueface.data.imports.deepfakebench import DeepfakeBench
from trueface.data.imports.registry import ImportedImage, LayoutOptions
from trueface.data.imports.writing import (
    ImportRecord,
    compare_with_record,
    extend_record,
    hold_data_root,
    read_record,
    write_root,
)
from trueface.data.splits.split_files import read_lists
from trueface.data.vocabulary import BUILT_IN
from trueface.runtime.errors import DataError, MachineError, UnknownName, UsageError
from trueface.runtime.ids import Words, parse_data

GENIMAGE = [
    f"{generator}/{archive}/{name}/{image}"
    for generator, archive, fake in (
        ("ADM", "imagenet_ai_0508_adm", "7_adm_{}.PNG"),
        ("Midjourney", "imagenet_midjourney", "007_midjourney_{}.png"),
    )
    for name in ("train", "val")
    for image in ("ai/" + fake.format(3), "nature/n01440764_10.JPEG")
]


TRUEFAKE = [
    f"{modifier}/{place}"
    for modifier, name in (
        ("TrueFake_PreSocial", "00012.png"),
        ("TrueFake_PostSocial/X", "00012_x.jpg"),
    )
    for place in (f"Fake/SDXL/animals/{name}", f"Fake/FLUX.1/animals/{name}", f"Real/FFHQ/{name}")
]


def import_layout(name: str, folder: Path, *real: str) -> list[ImportedImage]:
    options = LayoutOptions(real=frozenset(real))
    return list(registry.load(registry.resolve_layout(name, folder)).images(folder, options))


def test_genimage_groups_fakes_by_class_and_photographs_by_name(files: Files) -> None:
    images = import_layout("genimage", files(GENIMAGE))
    assert {(i.source, i.label) for i in images} == {("ADM", 1), ("Midjourney", 1), ("ImageNet", 0)}
    assert {i.ties for i in images if i.label} == {("class 7",)}
    assert {i.ties for i in images if not i.label} == {("photograph n01440764_10",)}
    assert {i.below for i in images if not i.label} == {
        f"{generator}/{name}-n01440764_10.JPEG"
        for generator in ("ADM", "Midjourney")
        for name in ("train", "val")
    }
    assert {i.lists for i in images} == {("train",), ("val",)}


def test_single_genimage_archive_is_named_by_its_generator(files: Files) -> None:
    top = files(f"imagenet_ai_0424_sdv5/val/{place}/a.png" for place in ("ai", "nature"))
    fake, real = sorted(import_layout("genimage", top), key=lambda image: -image.label)
    assert (fake.source, real.source) == ("stable_diffusion_v_1_5", "ImageNet")


def test_truefake_keeps_its_tree_under_trueface_names(files: Files) -> None:
    images = import_layout("truefake", files(TRUEFAKE))
    assert {(i.source, i.modifier) for i in images} == {
        (source, modifier)
        for source in ("StableDiffusionXL", "FLUX.1", "FFHQ")
        for modifier in ("pre", "tw")
    }
    assert {i.ties for i in images if i.label} == {("prompt animals/00012",)}


def test_truefake_split_file_is_used_as_published(files: Files) -> None:
    top = files(TRUEFAKE)
    lists = {"train": ["SDXL/animals/00012"], "val": [], "test": ["FFHQ/00012"]}
    (top / "split.json").write_text(json.dumps(lists))
    images = import_layout("truefake", top)
    of_source = {image.source: image.lists for image in images}
    assert of_source == {"StableDiffusionXL": ("train",), "FLUX.1": (), "FFHQ": ("test",)}
    (top / "split.json").write_text("[1]")
    with pytest.raises(DataError, match=r"cannot read .*split\.json"):
        import_layout("truefake", top)


@pytest.mark.parametrize(
    ("path", "label", "source", "below", "lists"),
    [
        ("real/a.png", 0, "set", "a.png", ()),
        ("Fake/dalle/a.png", 1, "dalle", "a.png", ()),
        ("train/progan/cat/1_fake/a.png", 1, "progan", "cat/train-a.png", ("train",)),
        ("valid/nature/b.JPG", 0, "set", "val-b.JPG", ("val",)),
    ],
)
def test_class_folder_gives_label_and_other_folders_the_source(
    files: Files, path: str, label: int, source: str, below: str, lists: tuple[str, ...]
) -> None:
    beside = ["real/z.png", "fake/z.png"]
    top = files([path, *beside, "notes/readme.png"])
    (image,) = [i for i in import_layout("folders", top) if i.file == str(top / path)]
    assert (image.label, image.source, image.below, image.lists) == (label, source, below, lists)
    assert not any("notes" in image.file for image in import_layout("folders", top))


def test_imagefolder_classes_are_sources_and_one_must_be_real(files: Files) -> None:
    top = files(f"{name}/{c}/x.png" for name in ("train", "test") for c in ("camera", "sdxl", "mj"))
    with pytest.raises(DataError, match=r"no known class is real in"):
        import_layout("imagefolder", top)
    images = import_layout("imagefolder", top, "camera")
    assert {(i.source, i.label) for i in images} == {("camera", 0), ("sdxl", 1), ("mj", 1)}
    assert {i.lists for i in images} == {("train",), ("test",)}


@pytest.mark.parametrize(
    ("paths", "layout", "place", "said"),
    [
        (
            ["real/a.png", "fake/b.png"], "genimage", "",
            r"Expected GENERATOR.*found fake/, real/\. It fits folders: ",
        ),
        (["real/a.png"], "genimages", "", "Did you mean .genimage."),
        (["real/a.png"], "auto", "nowhere", r"nowhere does not exist. Name the folder of the data set"),
        (
            [f"a{n}.txt" for n in range(7)], "auto", "",
            r"a0\.txt.*… \(7 in all\), which fits no known layout:(?s:.*)genimage: ",
        ),
    ],
    ids=["another layout", "an unknown layout", "no folder", "fits nothing"],
)  # fmt: skip
def test_unknown_folder_layout_is_reported_with_expected_layouts(
    files: Files, paths: list[str], layout: str, place: str, said: str
) -> None:
    with pytest.raises((DataError, UnknownName), match=said):
        registry.resolve_layout(layout, files(paths) / place)


@pytest.mark.parametrize(
    ("name", "paths"),
    [("genimage", GENIMAGE), ("truefake", TRUEFAKE), ("folders", ["real/a.png", "fake/b.png"])],
)
def test_each_layout_is_recognised(files: Files, name: str, paths: list[str]) -> None:
    assert registry.find_fitting_layout(files(paths)) == name


def test_folders_of_frames_can_be_declared_as_videos(files: Files) -> None:
    top = files(["real/v1/0.png", "fake/swap/v1/0.png", "fake/loose.png"])
    options = LayoutOptions(videos=True)
    images = {i.file: i for i in registry.load("folders").images(top, options)}
    assert {(i.source, i.below, i.is_frame) for i in images.values()} == {
        ("set", "v1/0.png", True),
        ("swap", "v1/0.png", True),
        ("set", "loose.png", False),
    }
    assert not any(image.is_frame for image in import_layout("folders", top))


@pytest.mark.parametrize(
    ("name", "people"),
    [
        ("000", ("FF 000",)),
        ("000_003", ("FF 000", "FF 003")),
        ("id0_0001", ("Celeb id0",)),
        ("id0_id16_0001", ("Celeb id0", "Celeb id16")),
        ("01_02__outside_talking__YVGY8LOK", ("DFD 01", "DFD 02")),
        ("0042_fake", ("UADFV 0042",)),
        ("holiday", ()),
    ],
)
def test_video_folder_name_gives_its_people(
    files: Files, name: str, people: tuple[str, ...]
) -> None:
    top, options = files(["real/a/x/0.png", f"fake/swap/{name}/0.png"]), LayoutOptions(videos=True)
    for layout in ("folders", "imagefolder"):
        images = registry.load(layout).images(top, options)
        assert [image.ties for image in images if image.label] == [people]


def test_circular_links_terminate(files: Files) -> None:
    top = files(["real/a.png", "fake/b.png"])
    (top / "real" / "again").symlink_to(top, target_is_directory=True)
    (top / "real" / "loop").symlink_to("loop")
    assert len(import_layout("folders", top)) == 2


NO_OPTIONS = LayoutOptions()


def import_deepfakebench(folder: Path) -> list[ImportedImage]:
    return list(DeepfakeBench().images(folder, NO_OPTIONS))


def test_frame_has_label_compression_video_and_people(
    faceforensics: Path,
) -> None:
    images = import_deepfakebench(faceforensics)
    assert len(images) == 2 * 10 * 3 * 3
    (frame,) = [i for i in images if i.file.endswith("Deepfakes/c40/frames/007_008/001.png")]
    assert frame == ImportedImage(
        str(faceforensics / "FaceForensics++/manipulated_sequences/Deepfakes/c40/frames/007_008/001.png"),
        1, "FF-DF", "007_008/001.png", "c40", ("FF 007", "FF 008"), True, ("test",),
    )  # fmt: skip
    assert {i.label for i in images if i.source == "FF-real"} == {0}


@pytest.mark.parametrize(
    ("real", "labels"),
    [
        ((), {"FF-real": 0, "Photoreal": 1, "pristine": 0, "camera": 1, "DFDC_Real": 0}),
        (("camera",), {"FF-real": 0, "Photoreal": 1, "pristine": 0, "camera": 0, "DFDC_Real": 0}),
    ],
)
def test_label_of_a_description_is_real_by_its_last_word_or_by_option(
    files: Files, real: tuple[str, ...], labels: dict[str, int]
) -> None:
    top = files(f"frames/{name}/1.png" for name in labels)
    lists = {
        name: {"train": {"v": {"label": name, "frames": [f"frames/{name}/1.png"]}}}
        for name in labels
    }
    (top / "set.json").write_text(json.dumps({"set": lists}))
    found = DeepfakeBench().images(top, LayoutOptions(real=frozenset(real)))
    assert {image.source: image.label for image in found} == labels


def test_paths_of_other_machine_are_found_by_their_last_components(files: Files) -> None:
    top = files(ff_frames())
    path = top / "FaceForensics++.json"
    path.write_text(json.dumps(ff_description(ff_frames(), "/home/other/datasets/rgb/")))
    for place in (top, path):
        assert {image.file for image in import_deepfakebench(place)} == {
            str(top / frame) for frame in ff_frames()
        }


def test_videos_of_same_name_in_two_folders_are_distinct(files: Files) -> None:
    frames = [
        f"Celeb-DF-v2/{folder}/frames/00001/{n}.png"
        for folder in ("Celeb-real", "YouTube-real")
        for n in range(2)
    ]
    top = files(frames)
    lists = {
        "train": {f"{f.split('/')[1]}-1": {"label": "r", "frames": [f]} for f in frames[::2]},
        "test": {},
    }
    (top / "Celeb-DF-v2.json").write_text(json.dumps({"Celeb-DF-v2": {"CelebDFv2_real": lists}}))
    assert {image.below.rpartition("/")[0] for image in import_deepfakebench(top)} == {
        "Celeb-real/00001",
        "YouTube-real/00001",
    }


def test_published_splits_are_kept_and_people_stay_in_one_published_or_drawn_split(
    faceforensics: Path,
) -> None:
    arrangement = arrange(import_deepfakebench(faceforensics))
    lists, remarks = make_import_lists(arrangement, arrangement.groups, earlier_lists={})
    people = {
        name: {p for key in keys for p in key.split("/")[1].split("_")}
        for name, keys in lists.items()
    }
    assert people == {name: {p for pair in pairs for p in pair} for name, pairs in PAIRS.items()}
    assert remarks == []
    assert arrangement.video_folders == {"FF-DF", "FF-F2F", "FF-real"}
    assert arrangement.groups["FF-DF/007_008/000"] == arrangement.groups["FF-real/008/000"]
    drawn, _ = make_import_lists(
        arrangement, arrangement.groups, earlier_lists={}, use_published=False, seed=3
    )
    groups = [{arrangement.groups[key] for key in keys} for keys in drawn.values()]
    assert all(groups)
    assert sum(map(len, groups)) == len(set().union(*groups))


@pytest.mark.parametrize(
    ("described", "said"),
    [
        (ff_description(ff_frames()), r"no frame of .*FF\.json was found in .* other/"),
        (ff_description(ff_frames(), "../"), "is outside its folder"),
        ({"FF": {"FF-real": {"train": [1, 2]}}}, "does not describe videos"),
    ],
    ids=["other frames", "a way out", "no videos"],
)
def test_files_that_describe_no_frame_of_folder_are_refused_by_name(
    files: Files, described: dict[str, Any], said: str
) -> None:
    top = files(["other/a.png"])
    (top / "FF.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match=said):
        import_deepfakebench(top)


def image(name: str, *lists: str, source: str = "gen", ties: tuple[str, ...] = ()) -> ImportedImage:
    return ImportedImage(f"/set/{source}/{name}", 1, source, name, ties=ties, lists=lists)


def test_image_of_several_published_splits_is_kept_in_strictest() -> None:
    arrangement = arrange([image("a.png", "train", "val", "test"), image("b.png", "train")])
    lists, _ = make_import_lists(arrangement, {}, earlier_lists={})
    assert lists["test"] == ("gen/a",)
    (remark,) = arrangement.remarks
    assert remark.startswith("1 images are in several of the published lists, such as gen/a")


def test_set_without_test_split_tests_on_validation_split() -> None:
    images = [image(f"{n}.png", "train") for n in range(18)]
    images += [image(f"v{n}.png", "val") for n in range(4)]
    lists, remarks = make_import_lists(arrange(images), {}, earlier_lists={})
    assert lists["test"] == tuple(f"gen/v{n}" for n in range(4))
    assert (len(lists["train"]), len(lists["val"])) == (16, 2)
    assert [remark.partition(":")[0] for remark in remarks] == ["gen", "gen"]


def test_each_source_gets_its_missing_split() -> None:
    whole = [image(f"{n}.png", name, source="a") for n, name in enumerate(("train", "val", "test"))]
    half = [image(f"{n}.png", "train", source="b") for n in range(18)]
    lists, _ = make_import_lists(
        arrange([*whole, *half, image("t.png", "test", source="b")]), {}, earlier_lists={}
    )
    assert sum(key.startswith("b/") for key in lists["val"]) == 2
    assert sum(key.startswith("a/") for key in lists["val"]) == 1


def test_new_images_move_no_old_one_and_follow_their_group() -> None:
    old = [image(f"{n}.png", ties=(f"p{n}",)) for n in range(20)]
    first = arrange(old)
    before, _ = make_import_lists(first, first.groups, earlier_lists={}, seed=1)
    more = arrange([*old, *(image(f"x{n}.png", ties=(f"p{n}",)) for n in range(20))])
    after, _ = make_import_lists(more, more.groups, earlier_lists=before, seed=2)
    for name, keys in before.items():
        assert set(keys) <= set(after[name])
        assert {key for key in after[name] if "/x" in key} == {
            key.replace("/", "/x") for key in keys
        }


def test_groups_across_published_splits_are_reported() -> None:
    arrangement = arrange(
        [image("a.png", "train", ties=("p",)), image("b.png", "test", ties=("p",))]
    )
    _, remarks = make_import_lists(arrangement, arrangement.groups, earlier_lists={})
    assert "1 groups (a person, a prompt, a video) are in several lists, such as p" in remarks[-1]


def test_people_swapped_with_each_other_are_grouped_by_own_video() -> None:
    images = [image(f"{n}.png", ties=(f"id{n}", f"id{(n + 1) % 9}")) for n in range(9)]
    arrangement = arrange(images)
    assert len(set(arrangement.groups.values())) == 9
    assert "100 % of the images are linked by shared people" in arrangement.remarks[0]


def test_two_files_for_one_destination_and_no_file_at_all_are_refused() -> None:
    with pytest.raises(DataError, match=r"/set/gen/a\.png and /other/a\.png would both be"):
        arrange([image("a.png"), image("a.png")._replace(file="/other/a.png")])
    with pytest.raises(DataError, match="no images in this layout"):
        arrange([])


@pytest.mark.parametrize(
    ("folder", "label", "word"),
    [
        ("FF-DF", 1, "FF-DF"),
        ("FF-real", 0, "realFF"),
        ("CelebDFv2_fake", 1, "CelebDFv2"),
        ("DFDC_Real", 0, "realDFDC"),
        ("realProgan", 0, "realProgan"),
        ("real", 0, "realImages"),
        ("Real", 0, "realImages"),
        ("Surreal", 0, "realSurreal"),
        ("Photoreal", 1, "Photoreal"),
        ("deepfake", 1, "deepfake"),
        ("Photo.real", 1, "Photo"),
        ("realESRGAN", 1, "fakeRealESRGAN"),
        ("gan2", 1, "fakeGan2"),
        ("stable diffusion (v1)", 1, "stable-diffusion-v1"),
        ("ümlaut", 1, "mlaut"),
        ("FFHQ", 0, "realFFHQ"),
        ("StyleGAN2", 1, "gan2"),
    ],
)
def test_source_gets_valid_id_word(folder: str, label: int, word: str) -> None:
    given = assign_words([(folder, label)], {})
    assert vocabulary_word(folder, given) == word
    own = Words(subsets={w: (f,) for f, w in given.items()})
    (part,) = parse_data(f"{word}:pre").parts
    assert BUILT_IN.with_words(own).methods(part.subset).folders == (folder,)


def test_words_of_earlier_imports_are_kept_and_unique() -> None:
    given = assign_words([("A_fake", 1), ("A", 1)], {"A_fake": "old"})
    assert given == {"A_fake": "old", "A": "A"}
    assert len(set(assign_words([("A", 1), ("A_fake", 1), ("A-fake", 1)], {}).values())) == 3
    given = assign_words([("Photo", 1), ("Photoreal", 1)], {})
    assert given == {"Photo": "Photo", "Photoreal": "Photoreal"}


def test_photographs_of_source_with_fakes_get_separate_folder() -> None:
    assert folder_of("progan", 0, {"progan"}) == "realProgan"
    assert folder_of("progan", 1, {"progan"}) == "progan"
    assert folder_of(".hid,den/x\n", 1, set()) == "_hid_den_x_"


KEPT = {"train": ("gen/a",), "val": (), "test": ()}


@pytest.fixture
def images(tmp_path: Path) -> list[ImportedImage]:
    (tmp_path / "set").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "set" / name).write_bytes(b"x")
    return [
        ImportedImage(str(tmp_path / "set" / name), 1, "gen", f"v/{name}", "c23", is_frame=True)
        for name in ("a.png", "b.png")
    ]


def write(root: Path, images: list[ImportedImage], *, copy: bool = False) -> ImportRecord:
    arrangement = arrange(images)
    with hold_data_root(root, dry=False):
        before = read_record(root)
        difference = compare_with_record(before, arrangement)
        record = extend_record(before, arrangement, difference, ("folders", "set"))
        write_root(root, record, difference.new, split_path=root / "splits", lists=KEPT, copy=copy)
    return record


def test_root_contains_links_splits_words_groups_and_videos(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    root = tmp_path / "a${HOME}: b"  # the name looks like a variable and is none
    record = write(root, images)
    content = yaml.safe_load((root / "dataset.yaml").read_text())
    assert content["defaults"]["data_root"] == str(root).replace("${", "$${")
    link = root / "c23/Fake/gen/v/a.png"
    assert link.readlink() == tmp_path / "set" / "a.png"
    assert read_lists(root / "splits") == {name: list(keys) for name, keys in KEPT.items()}
    assert read_record(root) == record
    assert video_sources(root) == {"gen"}
    words = read_words(root)
    assert (words.subsets, words.modifiers) == ({"gen": ("gen",)}, {"c23": ("c23",)})
    assert set(tmp_path.iterdir()) == {tmp_path / "set", root}


def test_second_import_adds_new_images_and_keeps_old_ones(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    root = tmp_path / "root"
    write(root, images[:1])
    inode = (root / "c23/Fake/gen/v/a.png").lstat().st_ino
    record = write(root, images)
    assert len(record.files) == 2
    assert (root / "c23/Fake/gen/v/a.png").lstat().st_ino == inode
    assert compare_with_record(record, arrange(images)).new == {}


def test_foreign_changed_or_locked_import_is_not_modified(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    root = tmp_path / "root"
    write(root, images[:1])
    with pytest.raises(UsageError, match="contains other files"):
        write(tmp_path / "set", images)
    with hold_data_root(root, dry=False), pytest.raises(UsageError, match="another import"):
        write(root, images)
    other = root / "c23/Fake/gen/v/b.png"
    other.symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="already exists and is not a link to"):
        write(root, images)
    other.unlink()
    write(root, images)
    (tmp_path / "set" / "b.png").write_bytes(b"yy")
    with pytest.raises(DataError, match=r"1 images have changed .*set/b\.png"):
        write(root, images)


def test_leftovers_of_killed_import_are_reused_or_removed(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    root = tmp_path / "root"
    stale = tmp_path / ".root.abcdef.staged"
    stale.mkdir()
    running = tmp_path / ".root.123456.staged"
    running.mkdir()
    held = os.open(running, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    write(root, images[:1])
    os.close(held)
    assert (stale.exists(), running.exists()) == (False, True)
    # killed while it added: the link is there, and no list or record names it
    (root / "c23/Fake/gen/v/b.png").symlink_to(images[1].file)
    assert len(write(root, images).files) == 2


def test_copies_are_regular_files_and_error_leaves_no_file(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    write(tmp_path / "root", images, copy=True)
    copy = tmp_path / "root/c23/Fake/gen/v/a.png"
    assert copy.is_file()
    assert not copy.is_symlink()
    arrangement = arrange(images)
    difference = compare_with_record(ImportRecord(), arrangement)
    (tmp_path / "set" / "b.png").unlink()
    with pytest.raises(MachineError, match="The import had no effect"):
        write_root(
            tmp_path / "other",
            extend_record(ImportRecord(), arrangement, difference, ("x", "y")),
            difference.new,
            split_path=tmp_path / "other" / "splits",
            lists=KEPT,
            copy=True,
        )
    assert {path.name for path in tmp_path.iterdir()} == {"set", "root"}


def test_listed_image_that_does_not_exist_is_reported(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    (tmp_path / "set" / "b.png").unlink()
    (tmp_path / "set" / "b.png").mkdir()
    arrangement = arrange(images)
    difference = compare_with_record(ImportRecord(), arrangement)
    assert difference.missing == (images[1].file,)
    (left,) = arrangement.without_files(difference.missing).images
    assert left.key == "gen/v/a"
    with pytest.raises(DataError, match="none of the 2 images exist"):
        arrangement.without_files(image.file for image in images)


def test_record_of_unknown_version_is_refused(tmp_path: Path, images: list[ImportedImage]) -> None:
    write(tmp_path / "root", images)
    (tmp_path / "root/import.json").write_text('{"schema": 9}')
    with pytest.raises(DataError, match=r"schema 9 is unknown\. Import into a new folder"):
        read_record(tmp_path / "root")


def test_data_root_lists_sources_that_are_videos(tmp_path: Path) -> None:
    assert video_sources(tmp_path) == frozenset()
    write_video_sources(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
    write_video_sources(tmp_path, {"FF-DF", "FF-real"})
    assert video_sources(tmp_path) == {"FF-DF", "FF-real"}
    for text in ("{", "[]", '{"sources": "FF-DF"}'):
        (tmp_path / "videos.json").write_text(text)
        with pytest.raises(DataError, match=r"videos\.json"):
            video_sources(tmp_path)


def import_table(path: Path) -> list[ImportedImage]:
    return list(CsvTable().images(path, LayoutOptions()))


def test_table_row_gives_image_with_its_columns(files: Files) -> None:
    top = files(["x/a.png", "x/b.png"])
    table = top / "t.csv"
    table.write_text(
        "\ufeffFile,Label,generator,group,split,video\n"
        f"x/a.png,fake,sdxl,p1,valid,\n{top}/x/b.png,0,,,,v1\n"
    )
    first, second = import_table(top)
    assert first == ImportedImage(
        str(top / "x/a.png"), 1, "sdxl", "x-a.png", "pre", ("group p1",), lists=("val",)
    )
    assert (second.label, second.source, second.is_frame) == (0, "t", True)
    assert second.below.startswith("v1/")
    assert CsvTable().fits(top)
    assert CsvTable().fits(table)


def test_table_row_may_have_several_groups_and_people_of_its_video(files: Files) -> None:
    top = files(["a.png", "b.png", "c.png"])
    table = top / "t.csv"
    table.write_text(
        "path,label,prompt,identity,identity_2,video\n"
        "a.png,1,p1,anna,ben,000_001\n"
        "b.png,0,,ben,,001\n"
        "c.png,0,,,,\n"
    )
    first, second, third = import_table(table)
    assert first.ties == ("group p1", "identity anna", "identity ben", "FF 000", "FF 001")
    assert second.ties == ("identity ben", "FF 001")
    assert third.ties == ()


@pytest.mark.parametrize("video", ["000_001.mp4", "fakes/000_001.avi", "fakes/000_001/"])
def test_video_file_name_gives_its_people(files: Files, video: str) -> None:
    table = files(["a.png"]) / "t.csv"
    table.write_text(f"path,label,video\na.png,1,{video}\n")
    assert [image.ties for image in import_table(table)] == [("FF 000", "FF 001")]


def test_picture_both_real_and_fake_is_refused_with_both_lines(files: Files) -> None:
    top = files(["img/a.png", "img/b.png"])
    (top / "link.png").symlink_to(top / "img/b.png")
    table = top / "t.csv"
    table.write_text("path,label\nimg/a.png,1\nimg/b.png,0\nimg/../img/a.png,real\nlink.png,1\n")
    with pytest.raises(DataError) as caught:
        import_table(table)
    assert str(caught.value) == (
        f"{table}:4: {top}/img/../img/a.png is real here, but fake in line 2: keep one of the rows"
        f"; line 5: {top}/link.png is fake here, but real in line 3: keep one of the rows"
    )


def test_labels_may_be_written_as_floats_like_pandas(files: Files) -> None:
    top = files(["a.png", "b.png"])
    (top / "t.csv").write_text("path,label\na.png,1.0\nb.png,0.0\n")
    assert [image.label for image in import_table(top / "t.csv")] == [1, 0]


def test_unknown_group_does_not_join_images(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    top = files([f"{name}.png" for name in "abcd"])
    (top / "t.csv").write_text(
        "path,label,identity\na.png,1,nan\nb.png,0,nan\nc.png,0,1.0\nd.png,0,1\n"
    )
    ties = [image.ties for image in import_table(top / "t.csv")]
    assert ties == [(), (), ("group 1",), ("group 1",)]
    assert (
        "In 2 rows the group is nan, NA, None or null. These rows belong to no group."
        in caplog.text
    )


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_table_may_have_other_separators(files: Files, separator: str) -> None:
    top = files(["a.png", "b, c.png"])
    rows = [("path", "label", "source"), ("a.png", "True", "x"), ('"b, c.png"', "FALSE", "y")]
    (top / "t.csv").write_text("\n".join(separator.join(row) for row in rows))
    assert CsvTable().fits(top)
    found = import_table(top / "t.csv")
    assert [(image.label, image.source) for image in found] == [(1, "x"), (0, "y")]


def test_missing_values_of_optional_columns_count_as_empty(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    top = files(["a.png", "b.png"])
    (top / "t.csv").write_text(
        "path,label,source,split,modifier,video\na.png,1,nan,nan,NA,<NA>\nb.png,0,x,,,\n"
    )
    first, second = import_table(top / "t.csv")
    assert (first.source, first.lists, first.modifier, first.is_frame) == ("t", (), "pre", False)
    assert second.source == "x"
    assert "In 1 rows the source is nan, NA, None or null. Their source is t." in caplog.text


def test_contradicting_columns_of_one_name_are_refused_by_line(files: Files) -> None:
    top = files(["a.png", "b.png"])
    table = top / "t.csv"
    table.write_text("path,label,size,size,Label\na.png,1,2,3,1\nb.png,0,2,3,1\n")
    with pytest.raises(
        DataError, match=r"t\.csv:3: the row has '0' and '1' in two columns 'label'"
    ):
        import_table(table)
    table.write_text("path,label,label\na.png,1,fake\nb.png,Real,0\n")
    assert [image.label for image in import_table(table)] == [1, 0]


def test_table_in_another_encoding_is_refused_with_the_command_that_converts(files: Files) -> None:
    top = files(["a.png"])
    (top / "t.csv").write_bytes("path,label,source\na.png,1,café\n".encode("cp1252"))
    with pytest.raises(
        DataError, match=r"t\.csv is not UTF-8: .* iconv -f cp1252 -t utf-8 .*t\.csv"
    ):
        import_table(top / "t.csv")
    (top / "t.csv").write_bytes("path,label\na.png,1\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"t\.csv is UTF-16, not UTF-8\. "):
        registry.resolve_layout("csv", top / "t.csv")


def test_table_without_rows_is_refused(files: Files) -> None:
    top = files(["a.png"])
    (top / "t.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"t\.csv has a header but no rows"):
        import_table(top / "t.csv")


def test_hidden_files_next_to_table_are_ignored(files: Files) -> None:
    top = files(["a.png", "._t.csv"])
    (top / "t.csv").write_text("path,label\na.png,1\n")
    assert len(import_table(top)) == 1


def test_hidden_files_next_to_video_description_are_ignored(files: Files) -> None:
    top = files(ff_frames())
    text = json.dumps(ff_description(ff_frames()))
    for name in ("FaceForensics++.json", ".FaceForensics++.json"):
        (top / name).write_text(text)
    assert len(import_deepfakebench(top)) == len(ff_frames())


def test_first_faulty_rows_are_listed_with_lines_and_remaining_ones_counted(
    files: Files,
) -> None:
    top = files(["a.png", "a.txt"])
    table = top / "t.csv"
    table.write_text("path,label,split\na.png,maybe\nb.png,1\na.txt,1\na.png,1,night\n,1\n")
    with pytest.raises(DataError) as caught:
        import_table(table)
    message = str(caught.value)
    assert message.startswith(f"{table}:2: label 'maybe'")
    assert "; line 3: file " in message
    assert "; line 4: a.txt is not an image" in message
    assert message.endswith("; and 2 more rows")


def test_table_without_required_columns_does_not_match(files: Files) -> None:
    top = files(["a.png"])
    (top / "t.csv").write_text("name,size\na.png,1\n")
    assert not CsvTable().fits(top)
    with pytest.raises(DataError, match=r"t\.csv:1: column path and label is missing"):
        import_table(top / "t.csv")


@pytest.mark.parametrize("text", ["subsets: 5", "[" * 3000, "\xff"])
def test_words_of_broken_dataset_file_are_an_error_with_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"cannot read .*dataset\.yaml"):
        read_words(tmp_path)
