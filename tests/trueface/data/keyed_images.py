"""Images by their keys, without files."""

from trueface.data.index import Image


def an_image(key: str, modifier: str = "pre") -> Image:
    """Return a real image by its key; the first of its folders is its method."""
    return Image(
        file=f"{modifier}/{key}.png",
        key=key,
        label=0,
        method=key.partition("/")[0],
        modifier=modifier,
    )
