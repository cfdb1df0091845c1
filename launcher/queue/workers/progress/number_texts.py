"""Numbers as programs print them."""

import re

MOST_STEPS = 1 << 53
# numbers; `D` exponents and `1.2 x 10^-3` are none
NUMBER = r"(?:[+-]?(?:\d+(?:[,_]\d+)*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?|[+-]?(?:nan|NaN|NAN|inf|Inf|INF|Infinity|infinity)(?!\w))"
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?(?:[eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
AMBIGUOUS = "its decimal comma may be one of thousands"
# lines that differ only in digits other than 0 are of one shape: either all of them consist of pairs, or none
SHAPES = str.maketrans(dict.fromkeys("23456789", "1"))
_MOST_SHAPES = 10_000  # shapes that are remembered


def remember(shapes: set[str], shape: str) -> None:
    """Add a shape to a set of limited size."""
    if len(shapes) >= _MOST_SHAPES:
        shapes.clear()
    shapes.add(shape)


def to_number(text: str) -> float | None:
    """Return a printed number; None if its comma can mean two things."""
    if "," in text:
        if _THOUSANDS.fullmatch(text):
            if "." in text or text.count(",") > 1:
                text = text.replace(",", "")
            elif text.lstrip("+-").startswith("0,"):
                text = text.replace(",", ".")
            else:
                return None
        elif _DECIMAL_COMMA.fullmatch(text):
            text = text.replace(",", ".")
        else:
            return None
    try:
        return float(text)
    except ValueError:
        return None
