import io
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trueface.data.loading.decoding import Scaling, decode
from trueface.runtime.errors import BadImageError
from trueface.runtime.image_files import PIXELS

SHARED = Path(__file__).parents[5] / "shared" / "data"


def a_picture(width: int = 45, height: int = 35, mode: str = "RGB", seed: int = 0) -> Any:
    """Return a picture with edges, gradients and noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = np.stack([rows * 5, columns * 4, (rows // 9 + columns // 7) % 2 * 200], axis=2)
    noise = np.random.default_rng(seed).integers(0, 30, smooth.shape)
    return PIL.Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).convert(mode)


def decode_with_pillow(path: Path) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with PIL.Image.open(path) as file:
            return torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def a_png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    """Return a PNG by hand: Pillow writes no 16-bit colour, and no lies."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def refusal_reason(path: Path, **options: Any) -> str:
    with pytest.raises(BadImageError) as caught:
        decode(path, **options)
    assert caught.value.path == path
    return caught.value.reason


@pytest.mark.parametrize("quality", [30, 100])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize(
    ("mode", "more"),
    [
        ("RGB", {}),
        ("L", {}),
        ("RGB", {"progressive": True}),
        ("CMYK", {}),
        ("RGB", {"optimize": 1}),
    ],
)
def test_jpeg_decodes_to_same_bits_as_pillow(
    tmp_path: Path, mode: str, more: dict[str, Any], subsampling: int, quality: int
) -> None:
    path = tmp_path / "a.jpg"
    for width, height in ((45, 35), (1, 1), (64, 16), (3, 70)):
        image = a_picture(width, height, mode)
        image.save(path, quality=quality, subsampling=subsampling, **more)
        assert torch.equal(decode(path), decode_with_pillow(path))


@pytest.mark.parametrize("folder", ["faces", "cifar10"])
def test_real_photographs_decode_to_same_bits_as_pillow(folder: str) -> None:
    files = sorted(file for file in (SHARED / folder).rglob("*") if file.suffix in {".jpg", ".png"})
    if not files:
        pytest.skip(f"{SHARED / folder} is not here")
    for file in files[:: max(1, len(files) // 200)]:
        assert torch.equal(decode(file), decode_with_pillow(file)), file


@pytest.mark.parametrize(
    ("suffix", "modes"),
    [
        ("png", "1 L LA P RGB RGBA"),
        ("gif", "1 L LA P RGB RGBA"),
        ("bmp", "1 L P RGB RGBA"),
        ("tiff", "1 L LA P PA RGB RGBA CMYK"),
        ("webp", "L LA P RGB RGBA"),
    ],
)
def test_every_file_format_decodes_to_same_bits_as_pillow(
    tmp_path: Path, suffix: str, modes: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    for mode in modes.split():
        a_picture(mode=mode).save(path)
        assert torch.equal(decode(path), decode_with_pillow(path)), mode


def test_format_is_detected_by_content_not_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    a_picture().save(path, "PNG")
    assert torch.equal(decode(path), decode_with_pillow(path))


def test_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    a_picture(mode="P").save(path, transparency=bytes(range(0, 256, 4)))
    assert torch.equal(decode(path), decode_with_pillow(path))


def test_sixteen_bit_images_are_scaled_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    values = np.linspace(0, 65535, 40 * 30).astype(">u2").reshape(30, 40)
    wanted = torch.from_numpy((values >> 8).astype(np.uint8)).expand(3, 30, 40)
    path.write_bytes(a_png(40, 30, 16, 0, b"".join(b"\0" + row.tobytes() for row in values)))
    assert torch.equal(decode(path), wanted)
    colours = np.repeat(values[:, :, None], 3, axis=2)
    path.write_bytes(a_png(40, 30, 16, 2, b"".join(b"\0" + row.tobytes() for row in colours)))
    assert torch.equal(decode(path), wanted)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_known_range_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tiff"
    a_picture(mode="L").convert(mode).save(path)
    assert "32-bit samples" in refusal_reason(path)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_first_frame_of_animation_is_decoded(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    frames = [a_picture(seed=seed) for seed in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    for bottom in (None, lambda height, width: 4):
        assert torch.equal(decode(path, rows_needed=bottom), decode_with_pillow(path))


def test_exif_rotation_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture = a_picture()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)
    assert decode(path).shape == (3, 35, 45)


def bombs() -> dict[str, bytes]:
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(file, "JPEG")
    jpeg = file.getvalue()
    at = jpeg.index(b"\xff\xc0") + 5
    file = io.BytesIO()
    PIL.Image.new("P", (8, 8)).save(file, "GIF")
    gif = file.getvalue()
    return {
        "small png": a_png(12_000, 12_000, 8, 2, b"\0" * 100_000),  # over ours, under Pillow's
        "png": a_png(30_000, 30_000, 8, 2, b"\0" * 100_000),
        "jpeg": jpeg[:at] + struct.pack(">HH", 30_000, 30_000) + jpeg[at + 4 :],
        "gif": gif[:6] + struct.pack("<HH", 65_000, 65_000) + gif[10:],
    }


@pytest.mark.parametrize("kind", ["small png", "png", "jpeg", "gif"])
def test_decompression_bomb_is_refused_before_allocating_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bombs()[kind])
    assert f"{PIXELS:,} pixels" in refusal_reason(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9])
def test_truncated_file_is_refused_instead_of_half_grey(
    tmp_path: Path, suffix: str, share: float
) -> None:
    path = tmp_path / f"a.{suffix}"
    a_picture(200, 150).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert refusal_reason(path)
    assert refusal_reason(path, scaling=Scaling(20))


@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"subsampling": 0}])
def test_truncated_jpeg_with_appended_end_marker_is_refused(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    path = tmp_path / "a.jpg"
    a_picture(200, 150).save(path, **more)
    path.write_bytes(path.read_bytes()[:-2000] + b"\xff\xd9")
    assert "missing" in refusal_reason(path)


def test_jpeg_with_harmless_oddities_decodes_like_pillow(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    a_picture().save(path)
    content = path.read_bytes()
    for odd in (content + b"more", content[:-2] + b"junk" + content[-2:]):
        path.write_bytes(odd)
        assert torch.equal(decode(path), decode_with_pillow(path))


def write_invalid_file(folder: Path, what: str) -> Path:
    path = folder / "x.png"
    match what:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "empty":
            path.touch()
        case "text":
            path.write_text("no image at all")
        case "program":
            path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    return path


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("nothing", "No such file"),
        ("folder", "Is a directory"),
        ("pipe", "it is a pipe"),
        ("device", "it is a pipe or a device"),
        ("loop", "symbolic links"),
        ("empty", "the file is empty"),
        ("text", "no JPEG, PNG, GIF, BMP, TIFF, WEBP, AVIF or HEIF image"),
        ("program", "no JPEG, PNG"),
    ],
)
def test_non_image_is_refused_with_plain_message(tmp_path: Path, what: str, reason: str) -> None:
    assert reason in refusal_reason(write_invalid_file(tmp_path, what))


def good_files() -> Sequence[bytes]:
    contents = []
    for kind, more in (("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}),
                       ("WEBP", {}), ("TIFF", {}), ("BMP", {})):  # fmt: skip
        file = io.BytesIO()
        a_picture().save(file, kind, **more)
        contents.append(file.getvalue())
    return contents


GOOD = good_files()


def outcome(path: Path) -> Tensor | str:
    try:
        return decode(path)
    except BadImageError as error:
        return error.reason


@given(st.sampled_from(GOOD), st.data())
def test_damaged_file_gives_pixels_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    spoilt = bytearray(content)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(
            st.integers(0, min(len(spoilt) - 1, 700)) | st.integers(0, len(spoilt) - 1)
        )
        spoilt[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "spoilt.png"
    path.write_bytes(spoilt[: data.draw(st.integers(1, len(spoilt)) | st.just(len(spoilt)))])
    found = outcome(path)
    if isinstance(found, str):
        assert found
        assert "<_io" not in found
    else:
        assert (found.dtype, found.shape[0], found.ndim) == (torch.uint8, 3, 3)


@pytest.mark.parametrize(
    ("size", "scale_to", "scaled"),
    [
        ((200, 100), 100, (200, 100)),
        ((200, 100), 50, (100, 50)),
        ((200, 100), 51, (200, 100)),
        ((199, 101), 51, (100, 51)),
        ((200, 100), 25, (50, 25)),
        ((200, 100), 13, (25, 13)),
        ((200, 100), 1, (25, 13)),
        ((200, 100), 300, (200, 100)),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_scaled_jpeg_covers_exactly_the_needed_size(
    tmp_path: Path, mode: str, size: tuple[int, int], scale_to: int, scaled: tuple[int, int]
) -> None:
    path = tmp_path / "a.jpg"
    a_picture(*size, mode=mode).save(path)
    pixels = decode(path, scaling=Scaling(scale_to))
    assert pixels.shape == (3, scaled[1], scaled[0])
    with PIL.Image.open(path) as file:
        by = max(1, min(round(whole / part) for whole, part in zip(size, scaled, strict=True)))
        file.draft(None, (size[0] // by, size[1] // by))
        assert torch.equal(pixels, torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1))


def test_scaling_does_not_affect_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    a_picture(200, 100).save(path)
    assert torch.equal(decode(path, scaling=Scaling(10)), decode_with_pillow(path))


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((200, 100), (80, 40)), ((101, 199), (40, 79)), ((20, 10), (80, 40)), ((40, 90), (40, 90)),
        ((1, 3), (40, 120)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["png", "jpg"])
def test_fitted_image_has_requested_shorter_side(
    tmp_path: Path, form: str, size: tuple[int, int], fitted: tuple[int, int]
) -> None:
    path = tmp_path / f"a.{form}"
    a_picture(*size).save(path)
    larger = min(size) < 40
    by = PIL.Image.Resampling.BICUBIC if larger else PIL.Image.Resampling.LANCZOS
    whole = PIL.Image.fromarray(decode_with_pillow(path).permute(1, 2, 0).numpy()).resize(
        fitted, by
    )
    pixels = decode(path, scaling=Scaling(40, fitted=True))
    assert torch.equal(pixels, torch.from_numpy(np.array(whole)).permute(2, 0, 1))


def test_narrow_strip_is_not_fitted_beyond_pixel_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (40_000, 1)).save(path)
    with pytest.raises(BadImageError, match="10,240,000 x 256"):
        decode(path, scaling=Scaling(256, fitted=True))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "1", "I;16"])
def test_upper_rows_of_png_equal_those_of_whole_image(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    a_picture(70, 100, mode).save(path)
    whole = decode(path)
    for rows in (0, 1, 30, 90, 100):
        asked: list[tuple[int, int]] = []

        def bottom(height: int, width: int, asked: list[Any] = asked, rows: int = rows) -> int:
            asked.append((height, width))
            return rows

        upper = decode(path, rows_needed=bottom)
        assert (upper.shape, upper.dtype) == (whole.shape, whole.dtype)
        assert torch.equal(upper[:, :rows], whole[:, :rows])
        assert asked == [(100, 70)]
        if rows == 30:
            assert not upper[:, rows:].any()


def test_damage_below_needed_rows_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    a_picture(200, 300).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 0x55
    path.write_bytes(content)
    whole = refusal_reason(path)
    assert refusal_reason(path, rows_needed=lambda height, width: 10) == whole


@pytest.mark.parametrize("scaling", [None, Scaling(100), Scaling(50), Scaling(90, fitted=True)])
@pytest.mark.parametrize("more", [
    {"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True},
    {"restart_marker_rows": 1}, {"comment": b"what"},
])  # fmt: skip
def test_upper_rows_of_jpeg_equal_those_of_whole_image(
    tmp_path: Path, more: dict[str, Any], scaling: Scaling | None
) -> None:
    path = tmp_path / "a.jpg"
    for mode in ("RGB", "L", "CMYK"):
        a_picture(170, 203, mode).save(path, **more)
        whole = decode(path, scaling=scaling)
        for rows in (0, 1, 16, 17, 30, 100, 150, 200):
            needed = min(rows, whole.shape[1])
            upper = decode(
                path, scaling=scaling, rows_needed=partial(lambda to, height, width: to, needed)
            )
            assert (upper.shape, upper.dtype) == (whole.shape, whole.dtype)
            assert torch.equal(upper[:, :needed], whole[:, :needed]), (mode, rows)


def test_jpeg_is_decoded_only_to_needed_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    a_picture(100, 200).save(path)
    upper = decode(path, rows_needed=lambda height, width: 60)
    assert upper[:, :80].any()
    assert not upper[:, 80:].any()


def test_decoding_does_not_set_warning_filters(tmp_path: Path) -> None:
    path, before, during = tmp_path / "a.png", [*warnings.filters], list[object]()
    a_picture().save(path)

    def bottom(height: int, _: int) -> int:
        during.extend(warnings.filters)
        return height

    decode(path, rows_needed=bottom)
    assert during == before
