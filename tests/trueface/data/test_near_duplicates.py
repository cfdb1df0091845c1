import io
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from trueface.data.index import Image
from trueface.data.split_checks import BATCH, Look, bound, look, looks, near, same

FACES = Path(__file__).parents[4] / "shared/data/faces/PreSocial/Real/FFHQ"


def a_picture(seed: int = 0, side: int = 48) -> PIL.Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize((side, side), PIL.Image.Resampling.BICUBIC)


def seen(folder: Path, **files: tuple[PIL.Image.Image, str]) -> dict[str, Look]:
    found = {}
    for name, (picture, suffix) in files.items():
        path = folder / f"{name}.{suffix}"
        picture.save(path)
        one = look(str(path))
        assert isinstance(one, Look)
        found[name] = one
    return found


def test_the_same_pixels_are_the_same_in_whatever_file(tmp_path: Path) -> None:
    one, grey = a_picture(), a_picture(1).convert("L")
    found = seen(
        tmp_path,
        png=(one, "png"),
        bmp=(one, "bmp"),
        other=(a_picture(2), "png"),
        grey=(grey, "png"),
        rgb=(grey.convert("RGB"), "png"),
        turned=(one.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT), "png"),
    )
    assert same(found) == [["png", "bmp"], ["grey", "rgb"]]


def test_the_same_bytes_in_another_shape_are_another_picture(tmp_path: Path) -> None:
    flat = np.zeros((4, 9, 3), dtype=np.uint8)
    found = seen(
        tmp_path,
        wide=(PIL.Image.fromarray(flat), "png"),
        high=(PIL.Image.fromarray(flat.reshape(9, 4, 3)), "png"),
    )
    assert same(found) == []


def test_a_picture_saved_again_or_made_smaller_is_nearly_the_same(tmp_path: Path) -> None:
    train = seen(tmp_path, one=(a_picture(1), "png"), two=(a_picture(2), "png"))
    test = seen(
        tmp_path,
        again=(a_picture(1), "jpg"),
        smaller=(a_picture(2).resize((40, 40)), "png"),
        third=(a_picture(3), "png"),
        equal=(a_picture(1), "bmp"),
    )
    assert {pair[:2] for pair in near(train, test)} == {("one", "again"), ("two", "smaller")}
    assert [*near(train, {})] == [*near({}, test)] == []


def test_a_mirrored_picture_is_nearly_the_same_and_called_mirrored(tmp_path: Path) -> None:
    train = seen(tmp_path, one=(a_picture(1), "png"))
    test = seen(tmp_path, turned=(PIL.ImageOps.mirror(a_picture(1)), "png"))
    (pair,) = near(train, test)
    assert (pair.name, pair.other, pair.mirrored) == ("one", "turned", True)
    assert pair.correlation == pytest.approx(1, abs=0.01)


def test_a_picture_that_is_its_own_mirror_image_makes_one_pair(tmp_path: Path) -> None:
    half = a_picture()
    whole = PIL.Image.new("RGB", (half.width * 2, half.height))
    whole.paste(half, (0, 0))
    whole.paste(PIL.ImageOps.mirror(half), (half.width, 0))
    looked = seen(tmp_path, one=(whole, "png"), other=(whole.resize((72, 36)), "png"))
    (pair,) = near(looked)
    assert {pair.name, pair.other} == set(looked)
    names = list(looked)
    assert len(list(near({names[0]: looked[names[0]]}, {names[1]: looked[names[1]]}))) == 1


def test_a_flat_picture_is_like_no_other(tmp_path: Path) -> None:
    flat = {f"n{grey}": (PIL.Image.new("L", (40, 40), grey), "png") for grey in (0, 90, 255)}
    assert [*near(seen(tmp_path, **flat, one=(a_picture(1), "png")))] == []


def test_pairs_within_a_set_come_once(tmp_path: Path) -> None:
    looked = seen(
        tmp_path, a=(a_picture(1), "png"), b=(a_picture(2), "png"), c=(a_picture(1), "jpg")
    )
    assert [pair[:2] for pair in near(looked)] == [("a", "c")]


def test_keys_are_bound_by_equal_pixels_under_any_modifier(tmp_path: Path) -> None:
    images = []
    for place, seed in (
        ("pre:M/1", 1),
        ("pre:M/2", 2),
        ("fb:M/2", 3),
        ("fb:M/3", 3),
        ("tl:M/4", 1),
    ):
        modifier, _, key = place.partition(":")
        file = tmp_path / f"{modifier}{key[2:]}.png"
        a_picture(seed).save(file)
        images.append(Image(file=str(file), key=key, label=0, method="M", modifier=modifier))
    found = bound(images)
    assert found["M/1"] == found["M/4"] != found["M/2"] == found["M/3"]


def test_keys_are_bound_by_similar_pictures_too_where_that_is_asked_for(tmp_path: Path) -> None:
    images = []
    for key, picture, ending in (
        ("M/1", a_picture(1), "png"),
        ("M/2", a_picture(1), "jpg"),
        ("M/3", PIL.ImageOps.mirror(a_picture(1)), "png"),
        ("M/4", a_picture(2), "png"),
    ):
        file = tmp_path / f"{key[2:]}.{ending}"
        picture.save(file)
        images.append(Image(file=str(file), key=key, label=0, method="M", modifier="pre"))
    assert bound(images) == {}
    together = bound(images, similar=True)
    assert set(together) == {"M/1", "M/2", "M/3"}
    assert len(set(together.values())) == 1


def test_what_cannot_be_decoded_is_told_in_its_place(tmp_path: Path) -> None:
    whole = io.BytesIO()
    a_picture().save(whole, "PNG")
    contents = (whole.getvalue(), b"", whole.getvalue()[:300], b"no image", whole.getvalue())
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.png").write_bytes(content)
    files = [str(tmp_path / f"{number}.png") for number in range(len(contents) + 1)]
    found = [*looks(files, threads=2)]
    assert [isinstance(one, Look) for one in found] == [True, False, False, False, True, False]
    assert "No such file" in str(found[-1])


def test_threads_leave_the_warnings_of_the_process_as_they_are(tmp_path: Path) -> None:
    files = [str(tmp_path / f"{number}.png") for number in range(32)]
    for number, file in enumerate(files):
        a_picture(number).save(file)
    before = [*warnings.filters]
    for _ in range(20):
        assert len([*looks(files, threads=4)]) == len(files)
        assert [*warnings.filters] == before


def test_progress_is_told_batch_by_batch(tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    a_picture(side=8).save(file)
    told: list[int] = []
    assert len([*looks([str(file)] * (BATCH + 1), progress=told.append)]) == BATCH + 1
    assert told == [BATCH, 1]


def test_real_faces_are_told_apart_and_their_copies_found(tmp_path: Path) -> None:
    if not FACES.is_dir():
        pytest.skip(f"needs the photographs in {FACES}")
    files = sorted(map(str, FACES.iterdir()))[:200]
    faces = dict(zip(files, looks(files), strict=True))
    good = {file: one for file, one in faces.items() if isinstance(one, Look)}
    half = dict([*good.items()][:100])
    rest = dict([*good.items()][100:])
    assert len(good) == len(files)
    assert same(good) == []
    assert [*near(half, rest)] == []
    for change in (_saved_again, _mirrored, _cropped):
        copies = {}
        for file in files[:20]:
            copy = tmp_path / f"{change.__name__}{Path(file).name}"
            change(PIL.Image.open(file)).save(copy, quality=75)
            copies[file] = look(str(copy))
        copied = {file: copy for file, copy in copies.items() if isinstance(copy, Look)}
        assert {pair[:2] for pair in near(half, copied)} == {(file, file) for file in files[:20]}


def _saved_again(picture: PIL.Image.Image) -> PIL.Image.Image:
    return picture


def _mirrored(picture: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.ImageOps.mirror(picture)


def _cropped(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Without 3 % of each side, all of it taken away at one corner."""
    width, height = picture.size
    return picture.crop((0, round(0.03 * height), round(0.97 * width), height))
