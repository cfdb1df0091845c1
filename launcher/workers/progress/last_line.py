"""The last line of a log, for where a screen has nothing better to tell."""

from launcher.system.text import Plain

MOST_CHARACTERS = 200  # of the line; a screen shows fewer


def last_line(end: bytes) -> str:
    """Return the last line that is not blank, without escape sequences; '' where there is none.

    Args:
        end: of a log; the line may begin before it, and is then shown from its last characters on.
    """
    text = end.rstrip()
    cut = max(text.rfind(b"\n"), text.rfind(b"\r"))
    line = text[cut + 1 :]
    torn = cut < 0 and len(line) > MOST_CHARACTERS
    line = line[-4 * MOST_CHARACTERS :] if torn else line[: 16 * MOST_CHARACTERS]
    plain = Plain()
    shown = (plain.feed(line) + plain.rest()).decode(errors="replace").expandtabs(1).strip()
    if torn:
        return f"…{shown[-MOST_CHARACTERS:]}"
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[:MOST_CHARACTERS]}…"
