"""The lines of a log as a person reads them: without colours, cursor movements, and what loggers write before a text."""

import re
from collections.abc import Iterator
from typing import NamedTuple

LONGEST = 4096  # characters of a line that is read

_CURSOR_UP = "\v"  # replaces the escape sequence that moves the cursor up
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_ENDS = re.compile(r"(\r\n|[\n\r\v]|\x08+)")
# prefixes of loggers; repeated, because a time, a level and a module come in any order
_TIME = (
    r"\[?\(?(?:(?:\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?/\d\d?(?:/\d{2,4})?|[A-Z][a-z]{2} [ \d]\d|\d{1,2} [A-Z][a-z]{2}(?: \d{4})?)[T ,:_-]{0,3})?"
    r"\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?(?![\d.,<|/]|:\d)[\])]?"
)
_LEVEL = (
    r"\[? ?(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL|SUCCESS|NOTICE|TRACE|"
    r"(?<=[\]|:] )(?:info|debug|warning|error)|(?<=\[)(?:info|debug|warning|error|INFO)) *\]?(?=[\s:\]|,\[-])"
)
_PREFIX = re.compile(
    r"(?:[\s|:,-]*(?:[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +(?:\d+ )?[\w.]+:\d+\]|[IWEF] [\w.]+:\d+\]"  # absl and glog
    r"|\[[A-Z] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]?\d*\]"  # Optuna, Jupyter
    r"|\[\w+ [IWEFD] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [\w.]+:\d+\]"  # NeMo
    r"|\[\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,]?\d* (?:INFO|WARNING|DEBUG|ERROR)\]"  # OpenNMT
    r"|\[\d\d/\d\d \d\d:\d\d:\d\d [\w.]+\]:"  # detectron2
    rf"|\[\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d [\w.-]+\]|\(\w+\.py:? ?\d+\)|{_TIME}|{_LEVEL}"
    r"|[A-Z]\w{0,12} (?=(?:INFO|WARNING|DEBUG|ERROR)\b)|\([A-Z]\w+\)(?= [A-Z][a-z]{2} \d)|[AP]M(?=:)"
    r"|\[[\w./<>-]*(?:\.\w+:\d+|__main__|[a-z_]\w*\.[\w.:]+)\]"  # [train.py:88] [__main__] [package.module]
    r"|\[(?:PID|RANK|[Rr]ank|rank|[Rr]ank ?\d+|GPU|gpu|node|proc|worker)[ :]?\w*\](?=[\s:\[])"
    r"|\[\d+,\d+\]<std(?:out|err)>:|\[default\d\]:"
    r"|\((?:[\w.]+ )?(?:pid|ip)=[^)]*\)|\([a-z_][\w.]*:\d+\)"  # Ray; ESPnet
    r"|\w+\.py: +\d+:(?= )|DLL (?=\d{4})|(?:wandb|logger|log): (?=\s*\S)|\[\w{1,16}\](?= \d{4}-)"
    r"|(?:[a-z_]\w*\.)+[a-z_]\w*(?::[\w<>]+)*(?::\d+)?(?= ?[-|:] )|__main__(?::[\w<>]+)*(?::\d+)?(?= ?[-|:] )"
    r"|\w+(?= - (?:INFO|DEBUG|WARNING|ERROR))|mmengine(?= -)|ppcls(?= INFO)|(?<=INFO:)[\w.]+(?=:)"
    r"))+(?: *[-|:>](?=\s)| ?:| *\|)?"
)
_LOGGER_STARTS = frozenset("[(0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ") | frozenset("lawmrs_")
_NAMED = re.compile(r"(?:[A-Z]\w+): (?=[a-z]\w+ ?= ?)")  # class of log4j, behind the prefix
_JULIA = re.compile(r"[│┌└] {1,3}(?:(?:Info|Warning|Debug):)?|\[ (?:Info|Warning|Debug): ")
_SOURCE_END = re.compile(r"\s{2,}[\w./-]+\.py:\d+$")  # rich's handler
_STRUCTLOG = re.compile(r"[\w./-]+(?: [\w./-]+){0,5} {2,}(?=[\w./-]+=)")


# logfmt: `ts=2026-11-30T10:00:00Z level=info msg="eval" epoch=2 loss=1.10`
_LEVELS = ("INFO", "WARN", "DEBUG", "ERROR")
_LOGFMT = re.compile(
    r'(?:(?:ts|t|time|timestamp|level|lvl|logger|caller|component|severity)=(?:"[^"]*"|\S+) )+(?:(?:msg|message)=(?:"(?P<quoted>[^"]*)"|(?P<word>\S+)) ?)?'
)


class LogLine(NamedTuple):
    """A line, or the part of a line that was drawn at once."""

    number: int  # place of the line in the log, from 1
    text: str  # without colours and without what a logger writes first
    raw: str  # without colours
    is_inner: bool = False  # the cursor moves up after the line: the bar of an inner loop
    is_open: bool = False  # nothing has ended the line
    has_prefix: bool = False


def log_lines(text: bytes, first: int = 1) -> Iterator[LogLine]:
    """Yield the lines of a piece of a log that are not blank.

    Args:
        text: The piece.
        first: Number of its first line.
    """
    plain = text.decode(errors="replace")
    if "\x1b" in plain:
        plain = _ESCAPES.sub(_replace_escape, plain)
    plain = plain.replace("\0", "")
    number = first
    pieces = _ENDS.split(plain)
    for place in range(0, len(pieces), 2):
        piece = pieces[place]
        end = pieces[place + 1] if place + 1 < len(pieces) else ""
        if piece and len(piece) <= LONGEST and not piece.isspace():
            raw = piece.rstrip()
            stripped, has_prefix = _without_prefix(raw)
            yield LogLine(
                number,
                stripped,
                raw,
                is_inner=end == _CURSOR_UP,
                is_open=not end,
                has_prefix=has_prefix,
            )
        elif "\n" in end and not piece.strip():
            yield LogLine(number, "", "")
        if "\n" in end:
            number += 1


def _replace_escape(match: "re.Match[str]") -> str:
    return _CURSOR_UP if match[0] in {"\x1b[A", "\x1b[1A", "\x1b[F"} else ""


def _without_prefix(line: str) -> tuple[str, bool]:
    """Return a line without what a logger writes before and after it, and whether there was such a thing."""
    if line[0] in "tlcs" and (match := _LOGFMT.match(line)):
        title = match["quoted"] or match["word"]
        rest = line[match.end() :]
        return f"{title}: {rest}" if title and rest else rest or title or "", True
    if line[0] == line[-1] == '"':
        line = line[1:-1] or line
    if (
        line[0] in _LOGGER_STARTS
        and (not line[0].isupper() or ":" in line[:40] or any(level in line for level in _LEVELS))
        and (match := _PREFIX.match(line))
    ):
        rest = line[match.end() :]
        named = _NAMED.match(rest.lstrip())
        rest = rest.lstrip()[named.end() :] if named else rest
        if "=" in rest and (event := _STRUCTLOG.match(rest.lstrip())):
            rest = rest.lstrip()[event.end() :]
        if rest.endswith(tuple("0123456789")) and (source := _SOURCE_END.search(rest)):
            rest = rest[: source.start()]
        return rest, True
    if line[0] in "│┌└[" and (match := _JULIA.match(line)) and line.count("│") < 2:
        return line[match.end() :], True
    return line, False
