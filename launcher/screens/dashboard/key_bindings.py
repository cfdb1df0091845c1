"""What the keys of `launcher top` do, for its bottom line and its page of help."""

from collections.abc import Sequence

from launcher.screens.text_table import Column, Line, Span, Tone, line, table

HINTS = (
    ("?", "help"),
    ("q", "quit"),
    ("Enter", "open"),
    ("/", "filter"),
    ("c", "cancel"),
    ("r", "retry"),
    ("h", "hold"),
    ("l", "release"),
    ("+ -", "priority"),
    ("w", "why"),
    ("Tab", "next section"),
)  # the first stay where there is little room
JOB_HINTS = (
    ("?", "help"),
    ("Esc", "back"),
    ("Tab", "next page"),
    ("c", "cancel"),
    ("r", "retry"),
    ("h", "hold"),
    ("l", "release"),
    ("+ -", "priority"),
)
METRICS_HINTS = (("?", "help"), ("Esc", "back"), ("[ ]", "metric"), ("Tab", "next page"))
WATCHING = frozenset({"c", "r", "h", "l", "+ -"})  # hints left out of a read-only screen
_HELP = (
    (
        "everywhere",
        (
            ("j k, arrows", "down and up"),
            ("PageDown PageUp, Space", "a screenful"),
            ("g G, Home End", "to the beginning, to the end"),
            ("?", "this page"),
            ("q, Esc", "back; on the first screen, q leaves"),
            ("Ctrl-C", "leave at once; the jobs go on"),
            ("Ctrl-Z", "suspend; `fg` comes back"),
        ),
    ),
    (
        "the queue",
        (
            ("Tab, Shift-Tab", "the next section, the one before"),
            ("Enter", "open the job: settings, attempts, log, metrics"),
            ("w", "open the job where it says why it is as it is"),
            ("/", "show jobs with a text, glob or number in their name or run; Esc shows all"),
        ),
    ),
    (
        "a job, in the queue or opened; each asks first",
        (
            ("h", "hold: it does not start until it is released"),
            ("l", "release a held one"),
            ("p", "pause a running one: its processes stop, what it has reserved stays reserved"),
            ("u", "resume a paused one"),
            ("c", "cancel; a running one is asked to end, and killed after its grace"),
            ("r", "retry one that failed, was cancelled or skipped"),
            ("+ -", "more or less priority; a point is worth a day of waiting"),
        ),
    ),
    (
        "an opened job",
        (
            ("1 2 3, Tab", "overview, log, metrics"),
            ("G, End", "in the log: follow it again"),
            ("[ ]", "in the metrics: the one before, the next"),
        ),
    ),
)
_SIGNS = (
    ("▸", "the chosen job"),
    ("● ○ ‖", "running, queued, held"),
    ("✓ ✗ – ·", "done, failed, cancelled, skipped"),
    ("▲", "took more memory than it asked for"),
)


def help_page(width: int) -> list[Line]:
    """Return what every key does."""
    lines = [line("launcher top: the keys", Tone.STRONG)]
    for title, keys in (*_HELP, ("signs", _SIGNS)):
        rows = [((Span(f"  {key}", Tone.STRONG), Span(what)), None) for key, what in keys]
        lines += [line(""), line(title, Tone.HEAD)]
        lines += table((Column(), Column(least=20, rows=3)), rows, width)
    return lines


def hints(keys: Sequence[tuple[str, str]], width: int) -> Line:
    """Return the bottom line: as many keys as there is room for."""
    spans: list[Span] = []
    left = width
    for key, what in keys:
        needed = len(key) + 1 + len(what) + (2 if spans else 0)
        if needed > left:
            break
        left -= needed
        gap = "  " if spans else ""
        spans += [Span(f"{gap}{key}", Tone.STRONG), Span(f" {what}", Tone.DIM)]
    return Line(tuple(spans))
