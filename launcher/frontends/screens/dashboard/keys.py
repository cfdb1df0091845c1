"""The keys of `launcher top`: their hints in the bottom line, and the page that explains them."""

from collections.abc import Sequence

from launcher.system.text_table import Column, TextLine, TextSpan, TextStyle, TextTable, line

# keys that mean what another does
KEY_ALIASES = {"down": "j", "up": "k", "space": "pagedown", "home": "g", "end": "G"}
_Keys = tuple[tuple[str, str], ...]
_HELP_KEY, _BACK, _TURN = ("?", "help"), ("Esc", "back"), ("Tab", "next page")
_STEER: _Keys = (
    ("c", "cancel"),
    ("r", "retry"),
    ("h", "hold"),
    ("l", "release"),
    ("p u", "pause, resume"),
    ("+ -", "priority"),
)
_WRITE: _Keys = (("e", "edit"), ("t n", "tags, note"))
_COPY = ("y", "copy")
HINTS: _Keys = (
    _HELP_KEY,
    ("q", "quit"),
    ("Enter", "open"),
    ("/", "filter"),
    *_STEER,
    ("L", "log"),
    ("m", "mark"),
    ("s", "sort"),
    *_WRITE,
    _COPY,
    ("w", "why"),
    ("Tab", "next section"),
)  # the first stay if there is little room
JOB_HINTS: _Keys = (_HELP_KEY, _BACK, _TURN, *_STEER, *_WRITE, _COPY)
LOG_HINTS: _Keys = (
    _HELP_KEY,
    _BACK,
    ("/", "search"),
    ("n N", "next, before"),
    ("g G", "begin, end"),
    _TURN,
    *_STEER[:2],
    _COPY,
)
METRICS_HINTS: _Keys = (_HELP_KEY, _BACK, ("[ ]", "metric"), _TURN)
# hints left out of a read-only screen
CHANGE_KEYS = frozenset(key for key, _ in (*_STEER, *_WRITE))
_HELP = (
    (
        "everywhere",
        (
            ("j k, arrows", "move down and up"),
            ("PageDown PageUp, Space", "move by a screen"),
            ("g G, Home End", "go to the beginning or the end"),
            ("?", "this page"),
            (
                "Ctrl-A E W U K",
                "while typing, go to the beginning or the end, delete a word, or delete all before or after",
            ),
            ("q, Esc", "back; on the first screen, q leaves"),
            ("Ctrl-C", "leave at once; the jobs continue"),
            ("Ctrl-Z", "suspend; `fg` returns"),
        ),
    ),
    (
        "the queue",
        (
            ("Tab, Shift-Tab", "next section, previous section"),
            ("Enter", "open the job: settings, attempts, log, metrics"),
            ("w", "open the job at the reason of its state"),
            ("L", "open its log"),
            ("/", "show jobs with a text, glob or number in their name or run; Esc shows all"),
            ("m", "mark or unmark the job, and move to the next"),
            ("M", "mark or unmark all jobs of the list"),
            ("U", "unmark all"),
            ("s S", "sort the lists by name, wait, memory, time or priority; S reverses"),
        ),
    ),
    (
        "the selected job, or all marked jobs; each key asks for confirmation",
        (
            ("h", "hold: the job does not start until it is released"),
            ("l", "release a held job"),
            ("p", "pause a running job: its processes stop, its resources stay reserved"),
            ("u", "resume a paused job"),
            ("c", "cancel: a running job gets SIGTERM, and SIGKILL after its grace period"),
            ("r", "retry a failed, cancelled or skipped job"),
            ("+ -", "raise or lower the priority; one point is worth a day of waiting"),
        ),
    ),
    (
        "texts of the selected job or all marked jobs; Esc changes nothing",
        (
            ("t", "tags; for marked jobs, TAG adds a tag and -TAG removes it"),
            ("n", "note (not while a log is open)"),
            ("e", "change the job in your editor, as `launcher edit` does"),
            ("y", "show the command line and copy it to the clipboard of the terminal"),
        ),
    ),
    (
        "an opened job",
        (
            ("1 2 3, Tab", "overview, log, metrics"),
            ("/", "in the log: search from here, ignoring case, and wrap around at the end"),
            ("n N", "in the log: next or previous match, until Esc ends the search"),
            ("g G", "in the log: go to the beginning, or to the end and follow it"),
            ("[ ]", "in the metrics: previous metric, next metric"),
        ),
    ),
)
_SIGNS = (
    ("▸ ◆", "selected job, marked job"),
    ("● ◐ ○ ‖", "running, paused, queued, held"),
    ("✓ ✗ – ·", "done, failed, cancelled, skipped"),
    ("▲", "used more memory than requested"),
)


def help_page(width: int) -> list[TextLine]:
    """Return what every key does."""
    lines = [line("launcher top: the keys", TextStyle.STRONG)]
    for title, keys in (*_HELP, ("signs", _SIGNS)):
        rows = [(TextSpan(f"  {key}", TextStyle.STRONG), what) for key, what in keys]
        lines += [line(""), line(title, TextStyle.HEAD)]
        lines += TextTable((Column(), Column(least=20, rows=3)), rows).to_lines(width)
    return lines


def hints(keys: Sequence[tuple[str, str]], width: int) -> TextLine:
    """Return the bottom line: as many keys as there is room for."""
    spans: list[TextSpan] = []
    left = width
    for key, what in keys:
        needed = len(key) + 1 + len(what) + (2 if spans else 0)
        if needed > left:
            break
        left -= needed
        gap = "  " if spans else ""
        spans += [TextSpan(f"{gap}{key}", TextStyle.STRONG), TextSpan(f" {what}", TextStyle.DIM)]
    return TextLine(tuple(spans))
