from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trueface.data.image_headers import Format, LearnedFormats, read_format

NOISE = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 95, 100])
def test_the_quality_of_a_jpeg_file_is_read_from_its_tables(tmp_path: Path, quality: int) -> None:
    NOISE.save(tmp_path / "a.jpg", quality=quality)
    assert read_format(tmp_path / "a.jpg") == Format("JPEG", quality)


def test_a_format_is_read_from_the_content_and_not_from_the_name(tmp_path: Path) -> None:
    NOISE.save(tmp_path / "a.jpg", format="PNG")
    assert read_format(tmp_path / "a.jpg") == Format("PNG", None)
    (tmp_path / "b.jpg").write_text("no image")
    assert read_format(tmp_path / "b.jpg") is None


def test_other_formats_and_distant_qualities_are_unlike() -> None:
    learned = LearnedFormats(counts={"JPEG": 9}, qualities=(70, 80))
    assert not learned.unlike(Format("JPEG", 61))
    assert learned.unlike(Format("JPEG", 50))
    assert learned.unlike(Format("PNG", None))
    lossless = LearnedFormats(counts={"PNG": 9}, qualities=None)
    assert not lossless.unlike(Format("BMP", None))
    assert lossless.unlike(Format("GIF", None))
    assert not lossless.with_jpeg(30, 95).unlike(Format("JPEG", 40))


def test_what_is_written_is_read_again() -> None:
    learned = LearnedFormats(counts={"JPEG": 9, "PNG": 1}, qualities=(70, 80))
    assert LearnedFormats.from_json(learned.as_json()) == learned
    assert str(learned) == "JPEG of 70 to 80, PNG"
    assert LearnedFormats.from_json({"counts": 3}) is None
