"""A heat map drawn over its image, with a legend, as PNG."""

import io

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from torch import Tensor

from trueface.prediction.heat_map import HeatMap

FAKE, REAL = (215, 48, 39), (69, 117, 180)  # red and blue of ColorBrewer's RdYlBu
STRONGEST = 0.75  # opacity of the largest value
OUTSIDE = 0.35  # brightness of what the network does not see
LEAST_SIDE, MOST_SIDE = 320, 1024  # of the drawn image, in pixels
LEGEND = 76  # rows below it
BAR = 12  # rows of the colour bar
INK, PAPER = (30, 30, 30), (255, 255, 255)


def picture(pixels: Tensor, heat: HeatMap, *, title: str, by: str) -> bytes:
    """Return the PNG of an image (3, H, W) uint8 with its heat map.

    Args:
        pixels: decoded.
        heat: of it.
        title: what the answer is, one line.
        by: how the map was made.
    """
    strongest = float(np.abs(heat.values).max())
    image = PIL.Image.fromarray(_blended(pixels, heat, strongest))
    image = _scaled(image)
    sheet = PIL.Image.new("RGB", (image.width, image.height + LEGEND), PAPER)
    sheet.paste(image, (0, 0))
    _legend(PIL.ImageDraw.Draw(sheet), sheet.width, image.height, strongest, title, by)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _blended(
    pixels: Tensor, heat: HeatMap, strongest: float
) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    grey = pixels.double().mean(0).numpy()[..., None]  # so that colours are the map's alone
    shown = np.repeat(OUTSIDE * grey, 3, 2)
    window = heat.window
    place = slice(window.top, window.bottom), slice(window.left, window.right)
    inside = grey[place]
    share = np.abs(heat.values) / strongest if strongest > 0 else np.zeros_like(heat.values)
    opacity = (STRONGEST * share)[..., None]
    colour = np.where((heat.values > 0)[..., None], FAKE, REAL)
    shown[place] = (1 - opacity) * inside + opacity * colour
    return shown.round().clip(0, 255).astype(np.uint8)


def _scaled(image: PIL.Image.Image) -> PIL.Image.Image:
    longer = max(image.size)
    factor = min(
        max(1.0, LEAST_SIDE / image.width), max(MOST_SIDE / longer, LEAST_SIDE / image.width)
    )
    factor = min(factor, MOST_SIDE / longer) if longer > MOST_SIDE else factor
    if factor == 1:
        return image
    size = max(round(image.width * factor), 1), max(round(image.height * factor), 1)
    kind = PIL.Image.Resampling.NEAREST if factor > 1 else PIL.Image.Resampling.BOX
    return image.resize(size, kind)


def _legend(
    draw: PIL.ImageDraw.ImageDraw, width: int, top: int, strongest: float, title: str, by: str
) -> None:
    font = PIL.ImageFont.load_default(size=12)
    draw.text((8, top + 4), title, INK, font)
    bar = top + 22
    for column in range(8, width - 8):
        value = 2 * (column - 8) / max(width - 17, 1) - 1
        colour = FAKE if value > 0 else REAL
        mixed = tuple(round(255 + STRONGEST * abs(value) * (each - 255)) for each in colour)
        draw.line([(column, bar), (column, bar + BAR)], mixed)
    below = bar + BAR + 2
    draw.text((8, below), f"real {-strongest:+.3g}", INK, font)
    draw.text((width // 2, below), "0", INK, font, anchor="ma")
    draw.text((width - 8, below), f"fake {strongest:+.3g}", INK, font, anchor="ra")
    draw.text((8, below + 17), f"logit by {by}; dark: not seen", INK, font)
