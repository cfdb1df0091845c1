"""Images by their keys, without files."""

from trueface.data.index import Image


def an_image(key: str, modifier: str = "pre", *, label: int = 0) -> Image:
    """Return an image, real unless `label` is 1, by its key; the first of its folders is its method."""
    return Image(
        file=f"{modifier}/{key}.png",
        key=key,
        label=label,
        method=key.partition("/")[0],
        modifier=modifier,
    )
