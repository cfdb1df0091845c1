"""The last lines in the log of a failed program, each with its meaning among the others.

`launcher.queue.workers.failure_forms` classifies a line alone. Here a line may belong to a traceback, an exception group or a
box. Several processes may write into one log, so each has a reader of its own.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from launcher.queue.workers.failure_forms import LineKind, classify_line, is_summary
from launcher.system.terminal_codes import PlainTextFilter

_MOST_LINES = 3000  # lines with text
_MOST_MISSES = 3  # lines of other processes between a traceback and its exception
_FIRST_LINE = re.compile(rb"\A[^\r\n]*")
_LINE_END = re.compile(r"\r\n|\n|\r")
_BACKSPACES = re.compile(rb"\x08+")  # Keras draws a bar again after them
_SOURCE = re.compile(
    r"\[(?:rank|default|trainer)?(\d{1,5})\]:[ ]?"  # torch, torchrun --tee
    r"|\[\d+,(\d+)\]<std(?:out|err)>:[ ]?"  # mpirun --tag-output
    r"|\((?:[^()]|\([^()]{0,80}\)){0,120}pid=[^()]{1,80}\)[ ]|\(raylet[^()]{0,40}\)[ ]"  # Ray
)
_LABEL = re.compile(r"\s{0,3}(\d{1,5}): ?")  # srun --label
_BAR_BEFORE_TEXT = re.compile(
    r"[^|]{0,200}?\d{1,3}%\|[^|]{0,500}\|[^\[\]]{0,80}\[[^\]]{0,500}\](?=\S)"
    r"|\d{1,12}\w{0,3} \[[^\]]{0,200}\](?=\S)"
)
_TRACEBACK = re.compile(
    r"(Original )?Traceback \(most recent calls?\b(?! first)[^()]*\):?\s*(?:─*╮)?\Z"
)
_IPYTHON = re.compile(r"(\w+) {2,}Traceback")
_FRAME = re.compile(r"\s+File \".+\", line \d+(?:, in .*)?\Z|> File \"")
_FRAMES_ONLY = re.compile(
    r"Call stack:|Stack \(most recent call last\)|.*\(most recent call first\)"
    r"|.*defined at \(most recent call last\)"  # TensorFlow
)
_EXCEPTION = re.compile(r"[A-Za-z_][\w.<>]*(?:\(\w+\))?(?::(?:\s|\Z)|\Z)")
_REPLACED = re.compile(
    r"\s*(?:During handling of the above exception|The above exception was the direct|what\(\):)"
)
_IGNORED = re.compile(r"Exception ignored |Error in (?:atexit|sys\.)|--- Logging error")
_IN_THREAD = re.compile(
    r"Exception in (?:thread (?!\")|\w+ callback)|Task exception was never retrieved|future: <"
)
_GROUP = re.compile(r"\s*\+ Exception Group Traceback")
_GROUP_LINE = re.compile(r"\s*[|+]")
_GROUP_HEAD = re.compile(r"\(\d+ sub-exceptions?\)\Z")
_GROUP_ERROR = re.compile(r"[\s|]*\| (?=\S)(?!Traceback|Exception Group)(.*)")
_BOX_SIDES = "│┃|╭╰┏┗"
_ERROR_BOX = re.compile(r"╭─+ \w*[Ee]rror\w* ─+╮\Z")  # Typer, rich-click
_MATLAB_FRAME = re.compile(r"Error in \S.* \(line \d+\)\Z")
_MATLAB_HEAD = re.compile(r"Error using \S[^:]*\Z")
_BEFORE_MESSAGE = re.compile(r"\A(?:Caused by: |! )")  # Java, R


class LogLine(NamedTuple):
    """A line with text."""

    text: str  # text of the line without the name of the process
    process: str  # rank or another name of the process; empty if the line names none
    kind: LineKind = LineKind.OTHER


def read_lines(end: bytes, *, is_cut: bool) -> list[LogLine]:
    """Return the last lines of a log that contain text.

    Args:
        end: The end of the log.
        is_cut: Its first line begins above it.
    """
    readers: defaultdict[str, _Reader] = defaultdict(_Reader)
    exceptions: dict[str, int] = {}  # place of the last one of each process
    lines: list[LogLine] = []
    for place, line in enumerate(_split(end, is_cut=is_cut)):
        if line.process in exceptions and replaces_exception(line.text):
            replaced = exceptions.pop(line.process)
            lines[replaced] = lines[replaced]._replace(kind=LineKind.PASSED)
        lines.append(readers[line.process].read(line))
        if lines[-1].kind is LineKind.UNCAUGHT:
            exceptions[line.process] = place
    return _classify_matlab(lines)


def replaces_exception(text: str) -> bool:
    """Return whether a line says that another line than the exception above it names the error."""
    traceback = _TRACEBACK.search(text)
    return bool(_REPLACED.match(text) or (traceback and traceback[1]))


def begins_traceback(text: str) -> bool:
    """Return whether the frames of a traceback follow."""
    return _TRACEBACK.search(text) is not None


def message_at(lines: Sequence[LogLine], place: int) -> str:
    """Return what an error's line says, with the next line if that contains the message."""
    text = _BEFORE_MESSAGE.sub("", lines[place].text.strip(" \t|"))
    below = lines[place + 1 :]
    if _GROUP_HEAD.search(text):
        errors = (_GROUP_ERROR.match(line.text) for line in below)
        names = (error[1] for error in errors if error and not _GROUP_HEAD.search(error[1]))
        return f"{text}: {next(names, '')}".removesuffix(": ")
    if _MATLAB_HEAD.match(text):
        text = f"{text}:"
    if text.endswith(":"):
        messages = (line.text.strip() for line in below if line.kind is not LineKind.PASSED)
        return f"{text} {next(messages, '')}".rstrip()
    return text


def _split(end: bytes, *, is_cut: bool) -> list[LogLine]:
    data = _BACKSPACES.sub(b"\r", end.replace(b"\0", b""))
    if is_cut:
        data = _FIRST_LINE.sub(b"", data, count=1)
    plain = PlainTextFilter()
    text = (plain.feed(data) + plain.flush()).decode(errors="replace")
    has_labels = "srun: error: " in text
    lines = []
    for line in _LINE_END.split(text):
        process = _SOURCE.match(line)
        if process is None and has_labels:
            process = _LABEL.match(line)
        rest = line[process.end() :] if process else line
        name = next(filter(None, (*process.groups(), process[0]))) if process else ""
        bar = _BAR_BEFORE_TEXT.match(rest)
        if written := (rest[bar.end() :] if bar else rest).rstrip():
            lines.append(LogLine(written, name))
    return lines[-_MOST_LINES:]


class _Traceback(NamedTuple):
    """The traceback that is being read."""

    indent: int  # blanks before the traceback's first line
    kind: LineKind  # the kind that the traceback's exception has
    name: str = ""  # the class of the traceback's exception, which IPython prints first
    is_box: bool = False
    has_exception: bool = True  # False: frames only
    misses: int = 0  # lines between the traceback and its exception that belong to neither


class _Reader:
    """Classifies the lines of one process by those above them."""

    def __init__(self) -> None:
        """Begin outside of a traceback."""
        self._traceback: _Traceback | None = None
        self._next_kind = LineKind.UNCAUGHT  # kind of the next traceback's exception
        self._is_in_group = self._is_group_named = False
        self._is_in_error_box = False

    def read(self, line: LogLine) -> LogLine:
        """Return the next line with its kind."""
        if self._is_in_error_box:
            self._is_in_error_box = False
            return line._replace(text=line.text.strip("│ \t"), kind=LineKind.ERROR)
        if _ERROR_BOX.match(line.text):
            self._is_in_error_box = True
            return line._replace(kind=LineKind.PASSED)
        return line._replace(kind=self._kind_in_group(line.text) or self._kind(line.text))

    def _kind_in_group(self, text: str) -> LineKind | None:
        """Return the kind of a line of an exception group; None outside of one."""
        if _GROUP.match(text):
            self._is_in_group, self._is_group_named = True, False
            return LineKind.PASSED
        self._is_in_group = self._is_in_group and _GROUP_LINE.match(text) is not None
        if not self._is_in_group:
            return None
        if not self._is_group_named and _GROUP_HEAD.search(text):
            self._is_group_named = True
            return LineKind.UNCAUGHT
        return LineKind.PASSED

    def _kind(self, text: str) -> LineKind:
        line = text.strip()
        indent = len(text) - len(text.lstrip())
        if begins_traceback(text):
            name = _IPYTHON.match(line)
            is_box = line.startswith("╭")
            self._traceback = _Traceback(indent, self._next_kind, name[1] if name else "", is_box)
            self._next_kind = LineKind.UNCAUGHT
            return LineKind.PASSED
        if _IGNORED.match(line):
            self._next_kind = LineKind.PASSED
            self._traceback = _Traceback(
                indent, LineKind.PASSED
            )  # the exception of a traceback may follow at once
            return LineKind.PASSED
        if _IN_THREAD.match(line):
            self._next_kind, self._traceback = LineKind.SECONDARY, None
            return LineKind.PASSED
        if _FRAMES_ONLY.match(line):
            self._traceback = _Traceback(indent, LineKind.PASSED, has_exception=False)
            return LineKind.PASSED
        if self._traceback is not None:
            return self._kind_in_traceback(self._traceback, text, indent)
        if indent and _FRAME.match(
            text
        ):  # a syntax error has no first line; that of another traceback may be above the end
            self._traceback = _Traceback(indent - 1, LineKind.UNCAUGHT)
            return LineKind.PASSED
        kind = classify_line(text)
        if kind is LineKind.OTHER:
            self._next_kind = LineKind.UNCAUGHT
        return kind

    def _kind_in_traceback(self, traceback: _Traceback, text: str, indent: int) -> LineKind:
        line = text.strip()
        if traceback.name:
            if not re.match(rf"(?:\w+\.)*{traceback.name}(?::|\Z)", line):
                return LineKind.PASSED
        elif (
            (traceback.is_box and line[0] in _BOX_SIDES)
            or indent > traceback.indent
            or _FRAME.match(text)
        ):
            return LineKind.PASSED
        if traceback.has_exception and _EXCEPTION.match(line):
            self._traceback, self._next_kind = None, LineKind.UNCAUGHT
            if traceback.kind is LineKind.UNCAUGHT and is_summary(line):
                return LineKind.SUMMARY
            return traceback.kind
        misses = traceback.misses + 1
        is_over = not traceback.has_exception or misses > _MOST_MISSES
        self._traceback = None if is_over else traceback._replace(misses=misses)
        return classify_line(text)


def _classify_matlab(lines: Iterable[LogLine]) -> list[LogLine]:
    """Classify MATLAB's errors: a message, and below it a line and a line of code for each frame."""
    classified = [*lines]
    code = -1  # place of the last line of code
    for place, line in enumerate(classified):
        if not _MATLAB_FRAME.match(line.text):
            continue
        above = place - 1
        if above not in {code, -1} and classified[above].kind is not LineKind.PASSED:
            message = classified[above]._replace(kind=LineKind.UNCAUGHT)
            if above and _MATLAB_HEAD.match(head := classified[above - 1].text):
                message = message._replace(text=f"{head}: {message.text.strip()}")
            classified[above] = message
        code = place + 1
        for frame in range(place, min(code + 1, len(classified))):
            classified[frame] = classified[frame]._replace(kind=LineKind.PASSED)
    return classified
