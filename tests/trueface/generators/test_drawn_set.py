"""Drawn sets: deterministic, whole or absent, divided by name, with attributes that the pixels show."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from pydantic import ValidationError

from trueface.data.attribute_table import read_attribute_table
from trueface.data.settings import SHAPE_CLASSES, DrawSettings
from trueface.generators.drawn_set import (
    ATTRIBUTES,
    SHAPES,
    Pixels,
    draw_portrait,
    draw_shape,
    make_drawn,
    recognise_attributes,
    shape_files,
    small_square,
)
from trueface.generators.made_folders import divide_by_hash, image_names
from trueface.runtime.errors import DataError, JobError


def settings(**given: object) -> DrawSettings:
    return DrawSettings.model_validate({"data_root": "made", "images": 20, **given})


def contents(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


def pixels_of(file: Path) -> Pixels:
    with PIL.Image.open(file) as picture:
        return np.array(picture)


@pytest.mark.parametrize("content", ["portraits", "shapes"])
def test_same_settings_give_same_bytes(tmp_path: Path, content: str) -> None:
    for name in ("one", "two"):
        make_drawn(tmp_path / name, settings(content=content))
    make_drawn(tmp_path / "other", settings(content=content, seed=7))
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    shared = [name for name in one.keys() & other.keys() if name.endswith(".png")]
    assert shared
    assert all(one[name] != other[name] for name in shared)


def test_part_does_not_depend_on_suffix() -> None:
    png, jpg = (
        divide_by_hash([f"{number}{suffix}" for number in range(50)], {"a": 0.5, "b": 0.5}, 3)
        for suffix in (".png", ".jpg")
    )
    assert [name.removesuffix(".png") for name in png["a"]] == [
        name.removesuffix(".jpg") for name in jpg["a"]
    ]


def test_tables_describe_the_pixels(tmp_path: Path) -> None:
    make_drawn(tmp_path / "made", settings(images=60))
    for part in "ABC":
        root = tmp_path / "made" / part
        table = read_attribute_table(root / "attributes.csv")
        assert table.names == ATTRIBUTES
        for name in image_names(root):
            seen = recognise_attributes(pixels_of(root / name))
            assert table.rows_for_images([name])[0] == [
                int(seen[attribute]) for attribute in ATTRIBUTES
            ]


def test_larger_portrait_shows_same_face() -> None:
    small, large = (draw_portrait("00003", seed=42, size=size) for size in (32, 128))
    shrunk = PIL.Image.fromarray(large).resize((32, 32), PIL.Image.Resampling.BOX)
    assert np.abs(np.asarray(shrunk, float) - small).mean() < 6


def test_grey_portraits_have_one_channel(tmp_path: Path) -> None:
    make_drawn(tmp_path / "made", settings(images=4, channels=1))
    with PIL.Image.open(next((tmp_path / "made").rglob("*.png"))) as picture:
        assert picture.mode == "L"


def test_shapes_are_in_class_folders_split_80_to_20(tmp_path: Path) -> None:
    made = make_drawn(tmp_path / "made", settings(content="shapes", images=60, size=10))
    assert made["parts"] == {"train": 48, "test": 12}
    for part, count in (("train", 8), ("test", 2)):
        folders = sorted(folder.name for folder in (tmp_path / "made" / part).iterdir())
        assert folders == list(SHAPE_CLASSES) == sorted(SHAPES)
        assert all(
            len(image_names(tmp_path / "made" / part / name)) == count for name in SHAPE_CLASSES
        )


def test_each_shape_class_gets_its_share_of_odd_total() -> None:
    files = [file for _, file in shape_files(61)]
    assert len(set(files)) == 61
    assert sum(file.startswith("train/bar/") for file in files) == 9


def test_ten_pixel_shapes_are_separable_by_small_network() -> None:
    def drawn(count: int, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = [
            draw_shape(SHAPE_CLASSES[at % 6], f"{kind}{at}", seed=1, size=10) for at in range(count)
        ]
        images = torch.from_numpy(np.stack(pixels)).float().flatten(1) / 127.5 - 1
        return images, torch.arange(count) % 6

    with torch.random.fork_rng():
        torch.manual_seed(1)
        images, classes = drawn(1200, "train")
        network = torch.nn.Sequential(
            torch.nn.Linear(100, 96), torch.nn.ReLU(), torch.nn.Linear(96, 6)
        )
        optimizer = torch.optim.Adam(network.parameters(), 5e-3)
        for _ in range(450):
            rows = torch.randint(1200, (64,))
            loss = torch.nn.functional.cross_entropy(network(images[rows]), classes[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
            optimizer.step()
        held_out, truth = drawn(300, "test")
        assert (network(held_out).argmax(1) == truth).float().mean() > 0.95


def test_set_with_missing_image_is_rebuilt_and_other_set_is_not_overwritten(
    tmp_path: Path,
) -> None:
    make_drawn(tmp_path / "made", settings())
    lost = next((tmp_path / "made").rglob("*.png"))
    lost.unlink()
    make_drawn(tmp_path / "made", settings())
    assert lost.is_file()
    with pytest.raises(DataError, match="other settings"):
        make_drawn(tmp_path / "made", settings(seed=7))


def test_second_process_waits_and_set_is_drawn_once(tmp_path: Path) -> None:
    """As two queues do: the second job starts while the first one draws."""
    root, seen = tmp_path / "made", list[tuple[int, int]]()

    def second(made: int, total: int) -> None:
        seen.append((made, total))
        raise JobError("stopped")

    def first(*_: int) -> None:
        with pytest.raises(JobError, match="stopped"):
            make_drawn(root, settings(), progress=second)

    made = make_drawn(root, settings(), progress=first)
    assert {*seen} == {(0, 0)}  # it has waited and drawn nothing
    seen.clear()
    assert make_drawn(root, settings(), progress=second) == made
    assert seen == []
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"size": 16}, "portraits need a size of at least 32 pixels, not 16"),
        ({"content": "resized"}, "needs source"),
        ({"source": "photos"}, "only with content: resized"),
        ({"images": 0}, "set the number of"),
    ],
)
def test_inconsistent_settings_are_refused(given: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        settings(**given)


COUNT = 10


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "img_align_celeba"
    folder.mkdir()
    rows = []
    for number in range(1, COUNT + 1):
        pixels = np.full((24, 20, 3), number * 20, np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number:06d}.jpg")
        rows.append(f"{number:06d}.jpg  {1 if number % 2 else -1} -1")
    text = "\n".join([str(COUNT), "Male Young", *rows])
    (tmp_path / "list_attr_celeba.txt").write_text(text + "\n")
    return folder


def make_resized_set(folder: Path, **given: object) -> Path:
    root = folder.parent / "made"
    settings = DrawSettings.model_validate(
        {"data_root": "made", "content": "resized", "source": "s", "images": 0, "size": 8}
        | {"crop": 16, **given}
    )
    make_drawn(root, settings, source=folder, attributes=folder.parent / "list_attr_celeba.txt")
    return root


def test_each_photograph_keeps_its_attributes(photographs: Path) -> None:
    root = make_resized_set(photographs, images=10)
    counts = {}
    for part in "ABC":
        names = image_names(root / part)
        counts[part] = len(names)
        table = read_attribute_table(root / part / "attributes.csv")
        for name in names:
            number = int(name.removesuffix(".png"))
            assert table.rows_for_images([name]) == [[number % 2, 0]]
            with PIL.Image.open(root / part / name) as picture:
                seen = np.array(picture)
            assert seen.shape == (8, 8, 3)
            assert abs(int(seen[4, 4, 0]) - number * 20) <= 2
    assert counts == {"A": 7, "B": 2, "C": 1}


def test_crop_is_centred(tmp_path: Path) -> None:
    pixels = np.zeros((30, 20, 3), np.uint8)
    pixels[9:21, 4:16] = 255
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (small_square(tmp_path / "a.png", crop=12, size=6) == 255).all()
    assert (small_square(tmp_path / "a.png", crop=0, size=20)[:, 0] == 0).all()


@pytest.mark.parametrize(
    ("given", "stranger", "said"),
    [
        ({"crop": 21}, False, r"000001\.jpg has 20x24 pixels, less than crop: 21"),
        ({}, True, r"no row for stranger\.jpg"),
        ({"images": 11}, False, "has 10 photographs, but images is 11"),
    ],
)
def test_unsuitable_photographs_are_named(
    photographs: Path, given: dict[str, object], stranger: bool, said: str
) -> None:
    if stranger:
        PIL.Image.new("RGB", (20, 24)).save(photographs / "stranger.jpg")
    with pytest.raises(DataError, match=said):
        make_resized_set(photographs, **given)
