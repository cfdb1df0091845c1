"""Traits of image files beside their pixels: what cameras, phones, screenshots and generators write.

They are read from the header of an opened file, without decoding pixels. Blocks of a PNG file behind
its pixels are not seen.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import PIL.Image
from PIL import ExifTags
from PIL.JpegImagePlugin import JpegImageFile

NONE = "none"
MOST = 40  # characters of a text from a file
ORIENTATIONS = (
    "upright", "mirrored", "turned by 180°", "mirrored and turned by 180°",
    "mirrored and turned by 270°", "turned by 90°", "mirrored and turned by 90°", "turned by 270°",
)  # fmt: skip
# sampling factors of the first component, where the others have 1 × 1
SAMPLINGS = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
WEBP_COMPRESSIONS = {b"VP8 ": "lossy", b"VP8L": "lossless"}
LOSSY_TIFF = frozenset({"jpeg", "tiff_jpeg", "webp"})  # Pillow's names
# beginnings of the segments of JPEG
SEGMENTS = {
    b"JFIF": "JFIF",
    b"JFXX": "JFIF",
    b"Exif": "EXIF",
    b"http://ns.adobe.com": "XMP",
    b"ICC_PROFILE": "ICC profile",
    b"MPF": "previews",
    b"Photoshop": "Photoshop",
    b"Adobe": "Adobe",
    b"JP": "C2PA",
}
# keys of Pillow for blocks of other formats
BLOCKS = {
    "exif": "EXIF",
    "icc_profile": "ICC profile",
    "xmp": "XMP",
    "XML:com.adobe.xmp": "XMP",
    "srgb": "sRGB",
    "comment": "comment",
}
# keys of Pillow for other things than metadata, or for another trait
OTHER_KEYS = frozenset({
    "dpi", "interlace", "transparency", "compression", "background", "version", "extension", "duration", "loop",
    "timestamp", "default_image", "bbox", "aspect", "blend", "disposal", "jfif", "primary", "bit_depth", "metadata",
    "thumbnails", "depth_images", "aux", "chroma", "resolution", "stride", "raw_size", "heif",
})  # fmt: skip


def colour_mode(image: PIL.Image.Image) -> str:
    """Return Pillow's mode, with transparency and bits per channel if these are unusual: "P with transparency"."""
    transparent = "transparency" in image.info
    parts = getattr(image, "tile", ())
    deep = any(";16" in str(part[3]) for part in parts) and ";16" not in image.mode
    return image.mode + " with transparency" * transparent + " of 16 bits" * deep


def orientation(image: PIL.Image.Image) -> str:
    """Return how EXIF asks to turn the image before display."""
    value = _exif(image).get(ExifTags.Base.Orientation, 1)
    is_known = isinstance(value, int) and 1 <= value <= len(ORIENTATIONS)
    return ORIENTATIONS[value - 1 if is_known else 0]


def chroma_subsampling(image: PIL.Image.Image) -> str:
    """Return the chroma subsampling of a colour JPEG file; "" of other files."""
    if not isinstance(image, JpegImageFile) or len(image.layer) < 3:
        return ""
    first, *rest = [(layer[1], layer[2]) for layer in image.layer]
    if set(rest) == {(1, 1)} and first in SAMPLINGS:
        return SAMPLINGS[first]
    return ", ".join(f"{wide}×{high}" for wide, high in (first, *rest))


def compression(image: PIL.Image.Image) -> str:
    """Return whether a WebP or TIFF file is lossy or lossless; "" of other files."""
    if image.format == "WEBP":
        return _webp_compression(image)
    if image.format != "TIFF":
        return ""
    return "lossy" if image.info.get("compression") in LOSSY_TIFF else "lossless"


def coding(image: PIL.Image.Image) -> str:
    """Return whether JPEG is progressive, PNG interlaced, and how lossless TIFF is compressed; "" of other files."""
    if isinstance(image, JpegImageFile):
        return "progressive" if "progressive" in image.info else "baseline"
    if image.format == "PNG":
        return "interlaced" if image.info.get("interlace") else "not interlaced"
    is_lossless = image.format == "TIFF" and compression(image) == "lossless"
    return str(image.info.get("compression", "")) if is_lossless else ""


def _webp_compression(image: PIL.Image.Image) -> str:
    """Return whether the first frame of a WebP file is lossless. An extended file has other chunks before it."""
    file = getattr(image, "fp", None)
    if file is None:
        return ""
    before = file.tell()
    file.seek(12)  # behind RIFF, the size and WEBP
    found = ""
    while not found and len(head := file.read(8)) == 8:
        if head[:4] == b"ANMF":  # a frame of an animation: 16 bytes, then its own chunks
            file.seek(16, os.SEEK_CUR)
            continue
        found = WEBP_COMPRESSIONS.get(head[:4], "")
        size = int.from_bytes(head[4:], "little")
        file.seek(size + size % 2, os.SEEK_CUR)
    file.seek(before)
    return found


def metadata(image: PIL.Image.Image) -> str:
    """Return the names of all blocks of metadata: "EXIF, ICC profile". The names of texts count as well."""
    names = set(_segments(image) if isinstance(image, JpegImageFile) else _blocks(image))
    return ", ".join(sorted(names)) or NONE


def resolution(image: PIL.Image.Image) -> str:
    """Return the recorded resolution: "72 dpi"."""
    # Pillow's value for a JPEG file with EXIF but without a resolution is 72
    is_recorded = (
        not isinstance(image, JpegImageFile)
        or bool(image.info.get("jfif_unit"))
        or ExifTags.Base.XResolution in _exif(image)
    )
    match image.info.get("dpi"):
        case (wide, _) if wide and is_recorded:
            return f"{float(wide):.0f} dpi"
    return NONE


def software(image: PIL.Image.Image) -> str:
    """Return the recorded maker of the camera, and software."""
    exif = _exif(image)
    texts = [exif.get(ExifTags.Base.Make), exif.get(ExifTags.Base.Software)]
    texts += [image.info.get("Software")] if image.format == "PNG" else []
    return " ".join(short_text(text) for text in texts if isinstance(text, str) and text) or NONE


def _segments(image: JpegImageFile) -> Iterator[str]:
    for name, content in image.applist:
        if name == "COM":
            yield "comment"
        else:
            yield next(
                (text for begin, text in SEGMENTS.items() if content[:30].startswith(begin)), name
            )


def _blocks(image: PIL.Image.Image) -> Iterator[str]:
    for key, value in image.info.items():
        if key in BLOCKS:
            if value not in (None, b"", ""):
                yield BLOCKS[key]
        elif isinstance(key, str) and key not in OTHER_KEYS:
            yield short_text(key)


def _exif(image: PIL.Image.Image) -> Mapping[int, Any]:
    # Pillow decodes a PNG file without this block, to look behind its pixels
    if image.format != "TIFF" and "exif" not in image.info:
        return {}
    try:
        return image.getexif()
    except Exception:  # noqa: BLE001  # parsers of broken headers raise whatever they trip over
        return {}


def short_text(text: str) -> str:
    """Return the beginning of a text from a file, without characters that cannot be printed."""
    return "".join(filter(str.isprintable, text)).strip()[:MOST]
