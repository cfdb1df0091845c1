"""GenImage, TrueFake, plain folders and ImageFolder: what each tells of its images."""

import json
from pathlib import Path

import pytest

from tests.trueface.data.imports.conftest import Files
from trueface.data.imports import registry
from trueface.data.imports.registry import ImportedImage, LayoutOptions
from trueface.runtime.errors import DataError, UnknownName

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


def imported(name: str, folder: Path, *real: str) -> list[ImportedImage]:
    options = LayoutOptions(real=frozenset(real))
    return list(registry.load(registry.chosen(name, folder)).images(folder, options))


def test_genimage_ties_fakes_by_their_class_and_photographs_by_their_name(files: Files) -> None:
    images = imported("genimage", files(GENIMAGE))
    assert {(i.source, i.label) for i in images} == {("ADM", 1), ("Midjourney", 1), ("ImageNet", 0)}
    assert {i.ties for i in images if i.label} == {("class 7",)}
    assert {i.ties for i in images if not i.label} == {("photograph n01440764_10",)}
    assert {i.below for i in images if not i.label} == {
        f"{generator}/{name}-n01440764_10.JPEG"
        for generator in ("ADM", "Midjourney")
        for name in ("train", "val")
    }
    assert {i.lists for i in images} == {("train",), ("val",)}


def test_an_archive_of_genimage_alone_is_named_by_its_generator(files: Files) -> None:
    top = files(f"imagenet_ai_0424_sdv5/val/{place}/a.png" for place in ("ai", "nature"))
    fake, real = sorted(imported("genimage", top), key=lambda image: -image.label)
    assert (fake.source, real.source) == ("stable_diffusion_v_1_5", "ImageNet")


def test_truefake_keeps_its_tree_under_the_words_of_truefaces(files: Files) -> None:
    images = imported("truefake", files(TRUEFAKE))
    assert {(i.source, i.modifier) for i in images} == {
        (source, modifier)
        for source in ("StableDiffusionXL", "FLUX.1", "FFHQ")
        for modifier in ("pre", "tw")
    }
    assert {i.ties for i in images if i.label} == {("prompt animals/00012",)}


def test_a_split_file_of_truefake_is_taken_as_published(files: Files) -> None:
    top = files(TRUEFAKE)
    lists = {"train": ["SDXL/animals/00012"], "val": [], "test": ["FFHQ/00012"]}
    (top / "split.json").write_text(json.dumps(lists))
    images = imported("truefake", top)
    of_source = {image.source: image.lists for image in images}
    assert of_source == {"StableDiffusionXL": ("train",), "FLUX.1": (), "FFHQ": ("test",)}
    (top / "split.json").write_text("[1]")
    with pytest.raises(DataError, match=r"cannot read .*split\.json"):
        imported("truefake", top)


@pytest.mark.parametrize(
    ("path", "label", "source", "below", "lists"),
    [
        ("real/a.png", 0, "set", "a.png", ()),
        ("Fake/dalle/a.png", 1, "dalle", "a.png", ()),
        ("train/progan/cat/1_fake/a.png", 1, "progan", "cat/train-a.png", ("train",)),
        ("valid/nature/b.JPG", 0, "set", "val-b.JPG", ("val",)),
    ],
)
def test_a_class_folder_says_the_label_and_the_others_the_source(
    files: Files, path: str, label: int, source: str, below: str, lists: tuple[str, ...]
) -> None:
    beside = ["real/z.png", "fake/z.png"]
    top = files([path, *beside, "notes/readme.png"])
    (image,) = [i for i in imported("folders", top) if i.file == str(top / path)]
    assert (image.label, image.source, image.below, image.lists) == (label, source, below, lists)
    assert not any("notes" in image.file for image in imported("folders", top))


def test_classes_of_an_imagefolder_are_sources_and_one_must_be_real(files: Files) -> None:
    top = files(f"{name}/{c}/x.png" for name in ("train", "test") for c in ("camera", "sdxl", "mj"))
    with pytest.raises(DataError, match=r"no class is known to be real, of camera, mj, sdxl"):
        imported("imagefolder", top)
    images = imported("imagefolder", top, "camera")
    assert {(i.source, i.label) for i in images} == {("camera", 0), ("sdxl", 1), ("mj", 1)}
    assert {i.lists for i in images} == {("train",), ("test",)}


def test_an_unknown_folder_is_described_with_the_layout_that_fits(files: Files) -> None:
    top = files(["real/a.png", "fake/b.png"])
    assert registry.chosen("auto", top) == "folders"
    with pytest.raises(
        DataError, match=r"expected GENERATOR.*holds fake/, real/; it fits folders: "
    ):
        registry.chosen("genimage", top)
    with pytest.raises(UnknownName, match="known: auto, csv, deepfakebench"):
        registry.chosen("genimages", top)
    with pytest.raises(DataError, match=r"no .*nowhere; name the folder of the data set"):
        registry.chosen("auto", top / "nowhere")


def test_a_folder_that_fits_nothing_gets_all_that_is_expected(files: Files) -> None:
    top = files(f"a{n}.txt" for n in range(7))
    with pytest.raises(
        DataError, match=r"a0\.txt.*… \(7 in all\), which fits no layout:(?s:.*)genimage: "
    ):
        registry.chosen("auto", top)


@pytest.mark.parametrize(
    ("name", "paths"),
    [("genimage", GENIMAGE), ("truefake", TRUEFAKE), ("folders", ["real/a.png", "fake/b.png"])],
)
def test_each_layout_is_recognised(files: Files, name: str, paths: list[str]) -> None:
    assert registry.fitting(files(paths)) == name


def test_folders_of_frames_can_be_said_to_be_videos(files: Files) -> None:
    top = files(["real/v1/0.png", "fake/swap/v1/0.png", "fake/loose.png"])
    options = LayoutOptions(videos=True)
    images = {i.file: i for i in registry.load("folders").images(top, options)}
    assert {(i.source, i.below, i.is_frame) for i in images.values()} == {
        ("set", "v1/0.png", True),
        ("swap", "v1/0.png", True),
        ("set", "loose.png", False),
    }
    assert not any(image.is_frame for image in imported("folders", top))


def test_links_in_a_circle_end(files: Files) -> None:
    top = files(["real/a.png", "fake/b.png"])
    (top / "real" / "again").symlink_to(top, target_is_directory=True)
    (top / "real" / "loop").symlink_to("loop")
    assert len(imported("folders", top)) == 2
