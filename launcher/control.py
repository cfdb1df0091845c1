"""Text from outside, shown without its power over terminals."""


class _Visible(dict[int, str]):
    """What each control character is replaced by; others stay as they are."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = char if char.isprintable() else char.encode("unicode_escape").decode()
        return self[code]


_VISIBLE = _Visible()


def harmless(text: str) -> str:
    """Return text that cannot steer a terminal: control characters become visible ones."""
    return text if text.isprintable() else text.translate(_VISIBLE)
