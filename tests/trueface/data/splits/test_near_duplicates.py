"""Images that are copies of others, or nearly."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from tests.trueface.data.splits.keyed_images import an_image
from trueface.data.image_keys import match, method_of
from trueface.data.index import Image
from trueface.data.loading.transforms import COPY_KINDS, matched_chains
from trueface.data.splits.near_duplicates import (
    ImageAppearance,
    find_equal_pictures,
    find_near_duplicates,
    group_equal_pictures,
    read_appearance,
    read_appearances,
)
from trueface.data.splits.split_files import SplitList, select
from trueface.runtime.errors import DataError

FACES = Path(__file__).parents[5] / "shared/data/faces/PreSocial/Real/FFHQ"


def a_picture(seed: int = 0, side: int = 48) -> PIL.Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize((side, side), PIL.Image.Resampling.BICUBIC)


def compute_appearances(
    folder: Path, **files: tuple[PIL.Image.Image, str]
) -> dict[str, ImageAppearance]:
    found = {}
    for name, (picture, suffix) in files.items():
        path = folder / f"{name}.{suffix}"
        picture.save(path)
        one = read_appearance(str(path))
        assert isinstance(one, ImageAppearance)
        found[name] = one
    return found


def test_same_pixels_match_in_every_file_format(tmp_path: Path) -> None:
    one, grey = a_picture(), a_picture(1).convert("L")
    found = compute_appearances(
        tmp_path,
        png=(one, "png"),
        bmp=(one, "bmp"),
        other=(a_picture(2), "png"),
        grey=(grey, "png"),
        rgb=(grey.convert("RGB"), "png"),
        turned=(one.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT), "png"),
    )
    assert find_equal_pictures(found) == [["png", "bmp"], ["grey", "rgb"]]


def test_same_bytes_in_other_shape_are_another_picture(tmp_path: Path) -> None:
    flat = np.zeros((4, 9, 3), dtype=np.uint8)
    found = compute_appearances(
        tmp_path,
        wide=(PIL.Image.fromarray(flat), "png"),
        high=(PIL.Image.fromarray(flat.reshape(9, 4, 3)), "png"),
    )
    assert find_equal_pictures(found) == []


def test_recompressed_or_resized_picture_is_a_near_duplicate(tmp_path: Path) -> None:
    train = compute_appearances(tmp_path, one=(a_picture(1), "png"), two=(a_picture(2), "png"))
    test = compute_appearances(
        tmp_path,
        again=(a_picture(1), "jpg"),
        smaller=(a_picture(2).resize((40, 40)), "png"),
        third=(a_picture(3), "png"),
        equal=(a_picture(1), "bmp"),
    )
    assert {pair[:2] for pair in find_near_duplicates(train, test)} == {
        ("one", "again"),
        ("two", "smaller"),
    }
    assert [*find_near_duplicates(train, {})] == [*find_near_duplicates({}, test)] == []


def test_mirrored_picture_is_a_near_duplicate_reported_as_mirrored(tmp_path: Path) -> None:
    train = compute_appearances(tmp_path, one=(a_picture(1), "png"))
    test = compute_appearances(tmp_path, turned=(PIL.ImageOps.mirror(a_picture(1)), "png"))
    (pair,) = find_near_duplicates(train, test)
    assert (pair.name, pair.other, pair.mirrored) == ("one", "turned", True)
    assert pair.correlation == pytest.approx(1, abs=0.01)


def test_symmetric_picture_makes_one_pair(tmp_path: Path) -> None:
    half = a_picture()
    whole = PIL.Image.new("RGB", (half.width * 2, half.height))
    whole.paste(half, (0, 0))
    whole.paste(PIL.ImageOps.mirror(half), (half.width, 0))
    looked = compute_appearances(
        tmp_path, one=(whole, "png"), other=(whole.resize((72, 36)), "png")
    )
    (pair,) = find_near_duplicates(looked)
    assert {pair.name, pair.other} == set(looked)
    names = list(looked)
    assert (
        len(list(find_near_duplicates({names[0]: looked[names[0]]}, {names[1]: looked[names[1]]})))
        == 1
    )


def test_flat_picture_has_no_near_duplicate(tmp_path: Path) -> None:
    flat = {f"n{grey}": (PIL.Image.new("L", (40, 40), grey), "png") for grey in (0, 90, 255)}
    assert [
        *find_near_duplicates(compute_appearances(tmp_path, **flat, one=(a_picture(1), "png")))
    ] == []


def keyed(folder: Path, **pictures: tuple[PIL.Image.Image, str]) -> list[Image]:
    """Write pictures by modifier and number of their key."""
    images = []
    for place, (picture, suffix) in pictures.items():
        modifier, _, number = place.partition("_")
        file = folder / f"{place}.{suffix}"
        picture.save(file)
        images.append(Image(str(file), f"M/{number}", label=0, method="M", modifier=modifier))
    return images


def test_keys_are_grouped_by_equal_pixels_under_any_modifier(tmp_path: Path) -> None:
    places = {"pre_1": 1, "pre_2": 2, "fb_2": 3, "fb_3": 3, "tl_4": 1}
    pictures = {place: (a_picture(seed), "png") for place, seed in places.items()}
    found = group_equal_pictures(keyed(tmp_path, **pictures))
    assert found["M/1"] == found["M/4"] != found["M/2"] == found["M/3"]


def test_keys_are_grouped_by_similar_pictures_on_request(tmp_path: Path) -> None:
    images = keyed(
        tmp_path,
        pre_1=(a_picture(1), "png"),
        pre_2=(a_picture(1), "jpg"),
        pre_3=(PIL.ImageOps.mirror(a_picture(1)), "png"),
        pre_4=(a_picture(2), "png"),
    )
    assert group_equal_pictures(images) == {}
    together = group_equal_pictures(images, similar=True)
    assert set(together) == {"M/1", "M/2", "M/3"}
    assert len(set(together.values())) == 1


def test_undecodable_image_is_reported_at_its_position(tmp_path: Path) -> None:
    whole = io.BytesIO()
    a_picture().save(whole, "PNG")
    contents = (whole.getvalue(), b"", whole.getvalue()[:300], b"no image", whole.getvalue())
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.png").write_bytes(content)
    files = [str(tmp_path / f"{number}.png") for number in range(len(contents) + 1)]
    found = [*read_appearances(files, threads=2)]
    assert [isinstance(one, ImageAppearance) for one in found] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]
    assert "No such file" in str(found[-1])


def test_real_faces_are_distinguished_and_their_copies_found(tmp_path: Path) -> None:
    if not FACES.is_dir():
        pytest.skip(f"needs the photographs in {FACES}")
    files = sorted(map(str, FACES.iterdir()))[:200]
    faces = dict(zip(files, read_appearances(files), strict=True))
    good = {file: one for file, one in faces.items() if isinstance(one, ImageAppearance)}
    half = dict([*good.items()][:100])
    rest = dict([*good.items()][100:])
    assert len(good) == len(files)
    assert find_equal_pictures(good) == []
    assert [*find_near_duplicates(half, rest)] == []
    for change in (_saved_again, _mirrored, _cropped):
        copies = {}
        for file in files[:20]:
            copy = tmp_path / f"{change.__name__}{Path(file).name}"
            change(PIL.Image.open(file)).save(copy, quality=75)
            copies[file] = read_appearance(str(copy))
        copied = {file: copy for file, copy in copies.items() if isinstance(copy, ImageAppearance)}
        assert {pair[:2] for pair in find_near_duplicates(half, copied)} == {
            (file, file) for file in files[:20]
        }


def _saved_again(picture: PIL.Image.Image) -> PIL.Image.Image:
    return picture


def _mirrored(picture: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.ImageOps.mirror(picture)


def _cropped(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Without 3 % of each side, all of it taken away at one corner."""
    width, height = picture.size
    return picture.crop((0, round(0.03 * height), round(0.97 * width), height))


def images(label: int, count: int) -> list[Image]:
    return [Image(f"{label}/{n}.png", f"{label}/{n}", label, "", "none") for n in range(count)]


def test_same_image_of_both_classes_gets_same_corruption() -> None:
    real, fake = images(0, 30), images(1, 20)
    chains = matched_chains([*real, *fake], seed=1)
    for first, second in zip(real, fake, strict=False):
        assert str(chains[first.name]) == str(chains[second.name])


@pytest.mark.parametrize("copy", COPY_KINDS)
def test_strengths_depend_on_seed_and_stay_within_bounds(copy: str) -> None:
    strengths, same, others = (
        [str(chain) for chain in matched_chains(images(0, 60), seed, copy).values()]
        for seed in (1, 1, 2)
    )
    assert strengths == same != others
    for place, chain in enumerate(strengths):
        kind = COPY_KINDS[copy][place % len(COPY_KINDS[copy])]
        low, high = (min(kind.exact), max(kind.exact)) if kind.exact else (kind.low, kind.high)
        assert low <= float(chain.removeprefix(kind.name) or 0) <= high


def test_training_copies_include_resized_images() -> None:
    counts = Counter(str(chain) for chain in matched_chains(images(0, 480), seed=1).values())
    assert counts["resize0.5"] + counts["resize0.75"] >= 40
    assert min(counts["resize0.5"], counts["resize0.75"]) >= 10


@pytest.mark.parametrize(
    ("images", "keys", "found", "renamed", "unknown"),
    [
        (["pre:F/00001", "fb:F/00001", "tw:F/00001"], ["F/00001"], [0, 1, 2], 0, 0),
        (["pre:F/00001", "fb:F/00001_n"], ["F/00001"], [0, 1], 1, 0),
        (["fb:F/00001", "fb:F/00001_2"], ["F/00001"], [0], 0, 1),
        (["fb:F/00001", "fb:F/000012"], ["F/00001"], [0], 0, 1),
        (["pre:F/00001_n"], ["F/00001"], [], 0, 1),
        (["none:F/00001_n"], ["F/00001"], [], 0, 1),
        (["whatsapp:F/00001_n"], ["F/00001"], [0], 1, 0),
        (["fb:F/000123", "fb:F/00045_2"], ["F/00012", "F/00045"], [1], 1, 1),
        (["fb:F/00001_a", "fb:F/00001_b"], ["F/00001"], [0], 1, 1),
        (["fb:00001", "fb:00002_8x9", "fb:00003"], ["00001", "00002"], [0, 1], 1, 1),
    ],
    ids=[
        "shared copies", "renamed: by its first five characters", "a longer name beside the whole",
        "more digits beside the whole", "not shared", "without modifier", "a person's own modifier",
        "a sixth digit", "two renamed ones", "without a folder",
    ],
)  # fmt: skip
def test_images_are_found_by_name_or_as_renamed_copies(
    images: list[str], keys: list[str], found: list[int], renamed: int, unknown: int
) -> None:
    every = [an_image(key, modifier) for modifier, _, key in (one.partition(":") for one in images)]
    selection = match(every, frozenset(keys), frozenset(["F/00002"]))
    assert selection.images == tuple(every[at] for at in found)
    assert (selection.renamed, selection.unknown) == (renamed, unknown)


def test_full_name_of_other_split_does_not_fall_back() -> None:
    split = SplitList(
        name="train", keys=frozenset(["F/00001"]), others=frozenset(["F/000012"]), sha256=""
    )
    with pytest.raises(DataError, match="none of the 1 images"):
        select([an_image("F/000012")], split)


@pytest.mark.parametrize(("key", "method"), [("FFHQ/a/1", "FFHQ"), ("FFHQ/1", "FFHQ"), ("1", "")])
def test_key_begins_with_its_method_folder(key: str, method: str) -> None:
    assert method_of(key) == method


def test_two_folders_of_one_modifier_both_match_a_key() -> None:
    images = [
        Image(file=f"{folder}/M/00001_{folder}.png", key=f"M/00001_{folder}", label=0, method="M",
              modifier="wa")
        for folder in ("a", "b")
    ]  # fmt: skip
    assert len(match(images, frozenset(["M/00001"]), frozenset()).images) == 2
