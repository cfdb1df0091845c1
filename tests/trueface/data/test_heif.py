"""HEIC and AVIF files: pixels, rotation, damage, and the error if a reader is missing."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from launcher.api import install_command
from trueface.data.image_formats import format_of, is_turned
from trueface.data.loading.decoding import decode, decode_array
from trueface.data.loading.image_set import ImageSet, report_bad_image
from trueface.data.loading.processes import BadFile
from trueface.runtime import image_files
from trueface.runtime.errors import BadImageError, MachineError
from trueface.runtime.image_files import open_image

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heif` is not installed")
Pixels = NDArray[np.uint8]

HIGH, WIDE = 48, 80
EXACT: dict[str, Any] = {
    "quality": -1,
    "chroma": 444,
    "matrix_coefficients": 0,
}  # settings of HEIC: lossless RGB
NEAR: dict[str, Any] = {"quality": 100, "subsampling": "4:4:4"}  # of AVIF
ORIENTATION, QUARTER = 274, 6


def squares(channels: int = 3) -> Pixels:
    """Return squares of 8 x 8 pixels in random colours, (HIGH, WIDE, channels)."""
    colours = np.random.default_rng(0).integers(0, 256, (HIGH // 8, WIDE // 8, channels))
    return np.kron(colours, np.ones((8, 8, 1))).astype(np.uint8)


def rotation_flag() -> bytes:
    flags = PIL.Image.Exif()
    flags[ORIENTATION] = QUARTER
    return flags.tobytes()


@pytest.fixture(autouse=True)
def _writer() -> None:
    pillow_heif.register_heif_opener()  # also lets Pillow write; readers register it themselves


@pytest.fixture
def no_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment without the extra `heif`."""
    absent = dict.fromkeys(image_files._MODULES, "no_such_module")
    monkeypatch.setattr(image_files, "_MODULES", absent)
    image_files._reader_fault.cache_clear()
    yield
    image_files._reader_fault.cache_clear()


def test_heic_pixels_are_exact_and_its_name_does_not_matter(tmp_path: Path) -> None:
    for name in ("a.heic", "a.jpg"):
        PIL.Image.fromarray(squares()).save(tmp_path / name, "HEIF", **EXACT)
        assert np.array_equal(decode_array(tmp_path / name), squares())
        with open_image(tmp_path / name) as image:
            assert str(format_of(image)) == "HEIF"


def test_avif_pixels_are_near_the_original(tmp_path: Path) -> None:
    PIL.Image.fromarray(squares()).save(tmp_path / "a.avif", **NEAR)
    difference = decode_array(tmp_path / "a.avif").astype(int) - squares()
    assert np.abs(difference).max() <= 4
    with open_image(tmp_path / "a.avif") as image:
        assert str(format_of(image)) == "AVIF"


def test_ten_bits_become_eight(tmp_path: Path) -> None:
    deep = squares().astype(np.uint16) * 257
    coded = pillow_heif.from_bytes("RGB;16", (WIDE, HIGH), deep.tobytes())
    coded.save(tmp_path / "a.heic", **EXACT)
    assert (
        pillow_heif.open_heif(tmp_path / "a.heic", convert_hdr_to_8bit=False).info["bit_depth"]
        == 10
    )
    assert np.array_equal(decode_array(tmp_path / "a.heic"), squares())


def test_rotation_of_heic_is_done_and_that_of_avif_is_a_flag(tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(squares())
    picture.save(tmp_path / "a.heic", exif=rotation_flag(), **EXACT)
    picture.save(tmp_path / "a.avif", exif=rotation_flag(), **NEAR)
    upright = np.rot90(squares(), -1)  # the flag asks for a quarter clockwise
    assert np.array_equal(decode_array(tmp_path / "a.heic"), upright)
    assert decode_array(tmp_path / "a.avif").shape == squares().shape
    for name, turned in (("a.heic", False), ("a.avif", True)):
        with open_image(tmp_path / name) as image:
            assert is_turned(image) is turned


@pytest.mark.parametrize("kept", [40, 200, 0.5, 0.9, -1])
@pytest.mark.parametrize(("name", "how"), [("a.heic", EXACT), ("a.avif", NEAR)])
def test_cut_file_is_refused(tmp_path: Path, name: str, how: dict[str, Any], kept: float) -> None:
    path = tmp_path / name
    PIL.Image.fromarray(squares()).save(path, **how)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(BadImageError) as caught:
        decode_array(path)
    assert "is cut off or damaged" in caught.value.reason
    assert "\n" not in caught.value.reason


def test_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "PIXELS", HIGH * WIDE - 1)
    PIL.Image.fromarray(squares()).save(tmp_path / "a.heic", **EXACT)
    with pytest.raises(BadImageError, match="80 x 48: more than 3,839 pixels"):
        decode_array(tmp_path / "a.heic")


def test_film_with_the_same_container_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypisom\0\0\x02\0isommp42" + bytes(100))
    with pytest.raises(BadImageError, match="AVIF or HEIF image"):
        decode_array(tmp_path / "a.heic")


@pytest.mark.parametrize(
    ("name", "form", "how"), [("a.heic", "HEIF", EXACT), ("a.avif", "AVIF", NEAR)]
)
def test_reader_that_cannot_be_imported_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str, how: dict[str, Any]
) -> None:
    (tmp_path / "broken_reader.py").write_text("raise ImportError('libheif.so.1: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(image_files._MODULES, form, "broken_reader")
    image_files._reader_fault.cache_clear()
    PIL.Image.fromarray(squares()).save(tmp_path / name, **how)
    try:
        assert image_files.missing_reader(name) == form
        with pytest.raises(
            BadImageError, match=r"imported \(libheif.*Install it again: "
        ) as caught:
            decode(tmp_path / name)
        assert image_files.lacks_reader(caught.value.reason)
    finally:
        image_files._reader_fault.cache_clear()


@pytest.mark.usefixtures("no_reader")
@pytest.mark.parametrize(
    ("name", "form", "how"), [("a.heic", "HEIF", EXACT), ("a.avif", "AVIF", NEAR)]
)
def test_reader_that_is_not_installed_is_named_with_its_command(
    tmp_path: Path, name: str, form: str, how: dict[str, Any]
) -> None:
    PIL.Image.fromarray(squares()).save(tmp_path / name, **how)
    with pytest.raises(BadImageError) as caught:
        decode(tmp_path / name)
    reason = caught.value.reason
    assert reason.startswith(f"no reader is installed for {form} files. Install one: ")
    assert reason.endswith(install_command("heif"))
    # such a file may be sound: a training does not leave it out
    images = ImageSet.__new__(ImageSet)
    with pytest.raises(MachineError, match=rf"cannot decode .*{name}: no reader .*\[heif\]"):
        report_bad_image(images, BadFile(0, tmp_path / name, reason), "skip")


@pytest.mark.usefixtures("no_reader")
@pytest.mark.parametrize(("name", "how"), [("a.heic", EXACT), ("a.avif", NEAR)])
def test_unwanted_format_is_refused_without_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: dict[str, Any]
) -> None:
    PIL.Image.fromarray(squares()).save(tmp_path / name, **how)
    for reader in ("pillow_heif", "PIL.AvifImagePlugin"):
        monkeypatch.setitem(sys.modules, reader, None)  # an import fails
    image_files._reader_fault.cache_clear()
    with pytest.raises(PIL.UnidentifiedImageError), open_image(tmp_path / name, formats=("PNG",)):
        pass
