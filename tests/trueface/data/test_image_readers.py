"""Every reader of image files treats 16-bit grey, other formats, bombs and pipes alike."""

import io
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trueface.data.forging.forged_set import read_face
from trueface.data.image_formats import read_format
from trueface.data.image_headers import read_header, read_size
from trueface.data.loading.decoding import decode
from trueface.generators.drawn_set import small_square
from trueface.generators.made_folders import load_image_batch, load_images, shape_of, to_uint8
from trueface.prediction.predictor import FileHeader
from trueface.runtime.errors import DataError
from trueface.runtime.image_files import open_image

SIDE = 32
Reader = Callable[[Path], object]

READERS: dict[str, Reader] = {
    "decode": lambda path: decode(path).numpy(),
    "read_images": lambda path: to_uint8(load_image_batch(path.parent, [path.name])).numpy(),
    "read_images, grey": lambda path: to_uint8(
        load_image_batch(path.parent, [path.name], channels=1)
    ).numpy(),
    "load_images": lambda path: load_images(path.parent, size=SIDE).numpy(),
    "read_face": lambda path: read_face(path, "faces.csv:2"),
    "small_square": lambda path: small_square(path, crop=0, size=SIDE),
    "small_square, grey": lambda path: small_square(path, crop=0, size=SIDE, channels=1),
}
HEADER_READERS: dict[str, Reader] = {
    "read_size": read_size,
    "read_format": read_format,
    "read_header": lambda path: read_header(str(path), 0),
    "File.read": lambda path: FileHeader.read(path).size,
}


def write_postscript(path: Path) -> None:
    PIL.Image.new("RGB", (SIDE, SIDE)).save(path, "EPS")


@cache
def a_bomb() -> bytes:
    file = io.BytesIO()
    PIL.Image.new("1", (13_000, 13_000)).save(file, "PNG")
    return file.getvalue()


def write_bomb(path: Path) -> None:
    path.write_bytes(a_bomb())


def write_floats(path: Path) -> None:
    PIL.Image.fromarray(np.zeros((SIDE, SIDE), dtype=np.float32)).save(path, "TIFF")


def write_cut(path: Path) -> None:
    PIL.Image.effect_noise((SIDE, SIDE), 50).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:200])


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "PostScript": (write_postscript, "no JPEG, PNG, GIF, BMP, TIFF, WEBP, AVIF or HEIF image"),
    "a bomb": (write_bomb, "13,000 x 13,000: more than 134,217,728 pixels"),
    "floats": (write_floats, "32-bit samples"),
    "a cut file": (write_cut, "cut off or damaged"),
    "a pipe": (os.mkfifo, "it is a pipe or a device"),
    "a link to nowhere": (
        lambda path: path.symlink_to("absent.png"),
        "absent.png",  # the name in each reader's words
    ),
}


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program in the place of Ghostscript; return the file that it would write."""
    started, program = tmp_path / "started", tmp_path / "bin/gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {started}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return started


@pytest.mark.parametrize("content", REFUSED)
@pytest.mark.parametrize("reader", READERS)
def test_refused_file_is_reported_with_reason_and_starts_no_program(
    tmp_path: Path, ghostscript: Path, reader: str, content: str
) -> None:
    path = tmp_path / "images/x.png"
    path.parent.mkdir()
    write, reason = REFUSED[content]
    write(path)
    with pytest.raises(DataError) as caught:
        READERS[reader](path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)
    assert not ghostscript.exists()


@pytest.mark.parametrize("content", ["PostScript", "a bomb", "a pipe"])
@pytest.mark.parametrize("reader", HEADER_READERS)
def test_header_readers_refuse_the_same_files(
    tmp_path: Path, ghostscript: Path, reader: str, content: str
) -> None:
    path = tmp_path / "x.png"
    REFUSED[content][0](path)
    assert HEADER_READERS[reader](path) is None
    assert not ghostscript.exists()


@pytest.mark.parametrize("content", ["PostScript", "a bomb", "a pipe", "a link to nowhere"])
def test_image_shape_is_refused_with_same_message(tmp_path: Path, content: str) -> None:
    write, reason = REFUSED[content]
    write(tmp_path / "x.png")
    with pytest.raises(DataError, match=reason):
        shape_of(tmp_path, "x.png")


def test_grey_16_bit_image_is_grey(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.zeros((4, 5), dtype=np.uint16)).save(tmp_path / "a.png")
    assert shape_of(tmp_path, "a.png") == (1, 4, 5)


def test_caller_may_accept_fewer_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (4, 4)).save(path, "JPEG")
    with open_image(path) as image:
        assert image.format == "JPEG"
    with pytest.raises(PIL.UnidentifiedImageError), open_image(path, formats=("PNG",)):
        pass
