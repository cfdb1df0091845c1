from pathlib import Path

import PIL.Image
import pytest

from trueface.prediction.predictor import File, Learnt

NOTHING_KNOWN = Learnt(sizes=None, formats=None)


@pytest.mark.parametrize(("flag", "reasons"), [(1, []), (6, ["orientation"]), (2, ["orientation"])])
@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_an_image_that_its_camera_says_to_turn_is_named(
    tmp_path: Path, name: str, flag: int, reasons: list[str]
) -> None:
    exif = PIL.Image.Exif()
    exif[0x112] = flag
    PIL.Image.new("RGB", (16, 8)).save(tmp_path / name, exif=exif)
    unlike = NOTHING_KNOWN.unlike(File.read(tmp_path / name))
    assert [each.reason for each in unlike] == reasons


def test_a_file_without_a_header_is_unlike_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    assert list(NOTHING_KNOWN.unlike(File.read(tmp_path / "a.jpg"))) == []
