"""Small pictures of the page as SVG: bars of shares, and sparklines."""

from collections.abc import Sequence

from markupsafe import Markup

_SPARK = (60, 16)


def stacked_bar(shares: Sequence[tuple[str, float]], note: str) -> Markup:
    """Return a bar of pieces from the left; what goes beyond its end is cut.

    Args:
        shares: the class of each piece in the style sheet, and how much of the bar it is, 0 to 1.
        note: the same in words.
    """
    pieces, begin = Markup(), 0.0
    for name, share in shares:
        end = min(100.0, begin + 100 * max(0.0, share))  # units of the bar, as wide as its place
        if end > begin:
            pieces += Markup('<rect class="{}" x="{:.2f}" width="{:.2f}" height="10"/>').format(
                name, begin, end - begin
            )
        begin = end
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img"'
        ' aria-label="{0}"><title>{0}</title>{1}</svg>'
    ).format(note, pieces)


def spark(values: Sequence[float]) -> Markup:
    """Return values from 0 to 1 as a little curve, the newest at the right; '' for fewer than two."""
    if len(values) < 2:
        return Markup()
    width, height = _SPARK
    step = width / (len(values) - 1)
    places = " ".join(
        f"{at * step:.1f},{height - 1 - min(max(value, 0.0), 1.0) * (height - 2):.1f}"
        for at, value in enumerate(values)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" aria-hidden="true"><polyline points="{}"/></svg>'
    ).format(width, height, places)
