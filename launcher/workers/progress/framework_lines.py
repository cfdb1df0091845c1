"""Lines with numbers as frameworks print them, without a change of the script: each form is a row of a table.

Names are those that the framework printed. A form reads a whole line; a line that it does not understand completely
gives no numbers. So lines about versions, times, addresses, sizes and warnings have none.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from launcher.system.terminal_codes import PlainTextFilter
from launcher.workers.progress.printed_lines import (
    LINE_END,
    LONGEST_BYTES,
    MOST_LINES,
    parse_plain_pairs,
)
from launcher.workers.progress.steps import MOST_STEPS, STEP, ProgressReport

EPOCH = "epoch"
_DEPTH = 3  # depth of mappings in a line of JSON
_LONGEST_NAME = 128  # characters
_MOST_WORDS = 4  # words of a name
# texts, not compiled: every command imports this, and few read a log
_INT = r"[0-9]{1,15}"
_NUM = r"(?:[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,4})?|[+-]?(?:nan|inf(?:inity)?))"
_NAME = r"[^\W\d][\w@/.'+-]{0,63}"
_END = r"(?![\w.%/:-])"  # behind a number that is not part of a date, version, address or size
_WORDS = rf"{_NAME}(?: {_NAME}){{0,{_MOST_WORDS - 1}}}"
_PAIR = rf"(?P<name>{_WORDS})(?: ?= ?| ?: +)(?P<value>{_NUM}) ?%?"
_SPACED = rf"(?P<name>{_WORDS}) +(?P<value>{_NUM}) ?%?"  # behind a count only
_MEASURED = rf"(?P<name>{_WORDS})(?: ?= ?| ?: *| +){_NUM} ?[\w/]+"  # a time or a size
# text that a logger writes before a line
_PREFIX = (
    r"(?:\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?\s*(?:[-|:]\s*)?)?"
    r"(?:\[?(?:DEBUG|INFO|WARNING|ERROR|Rank ?\d+|rank ?\d+)\]?\s*(?:[-|:]\s*)?)?(?:\[[\w.]+\]\s*|[\w.]+ - |[\w.]+:(?=\S*\s)\s*(?=epoch|step|iter))?"
)
_COUNTED = (
    rf"(?P<unit>epoch|step|iter|iteration|global_step)s?(?:\s*[:=#]?\s*)\[?(?P<step>{_INT})\]?"
    rf"(?:\s*(?:/|of)\s*(?P<total>{_INT}))?\]?(?:\s*\(\s*{_NUM}\s*%\s*\))?"
)
_SEPARATOR = r"\s*(?:[,;|]|-{1,3}|→)\s+|\s{2,}|\t+|(?<=[\d%.])\s+(?=[^\W\d][\w@/.'+ -]*\s?[:=])"
# words of a name, in lower case: settings, sizes, times and places, which are not results
_NO_RESULTS = frozenset(
    word
    for words in (
        "seed random_seed rank world_size local_rank line date duration batch batch_size bs num_workers",
        "num_params total_params trainable_params device gpu gpus num_gpus nodes n_gpu cpu cpus host node",
        "num_epochs max_epochs epochs total_epochs max_steps num_steps classes num_classes hidden_size",
        "data mem max_mem memory peak_mem width height channels year size_mb files lines error exit",
        "remaining v_num job uid length samples num_samples num_examples",
    )
    for word in words.split()
)
# the last word of such a name
_NO_RESULT_ENDS = frozenset(
    word
    for words in (
        "time elapsed eta seconds sec took params parameters version code id port pid size",
        "workers",
    )
    for word in words.split()
)


class FrameworkLine(NamedTuple):
    """The content of a line."""

    metrics: Mapping[str, float]
    step: int | None = None
    total: int | None = None
    unit: str = STEP  # "step" or "epoch"

    def report(self, at: float) -> ProgressReport | None:
        """Return it as a step, None if it counts nothing."""
        if self.step is None or self.step > MOST_STEPS:
            return None
        total = self.total if self.total and self.total <= MOST_STEPS else None
        return ProgressReport(at, self.step, total, {**self.metrics}, unit=self.unit)


class _Form(NamedTuple):
    """A form of lines."""

    mark: bytes  # bytes that each of these lines contains
    read: Callable[[str], FrameworkLine | None]


@cache
def _pattern(text: str) -> "re.Pattern[str]":
    return re.compile(text, re.IGNORECASE)


def _value(text: str) -> float:
    return float(text)


def is_result_name(name: str) -> bool:
    """Return whether a printed name can be that of a result: it names neither a setting nor a time."""
    words = re.split(r"[\s_]+", name.strip().lower())
    return "_".join(words) not in _NO_RESULTS and words[-1] not in _NO_RESULT_ENDS


def _dictionary(line: str) -> FrameworkLine | None:
    """Hugging Face's Trainer: `{'loss': 0.69, 'epoch': 0.5}`, with numbers or their texts."""
    begin = line.find("{'")
    if begin < 0 or not line.endswith("}"):
        return None
    item = rf"'(?P<name>[^']{{1,64}})': '?(?P<value>{_NUM})'?(?:, |\}}$)"
    found: dict[str, float] = {}
    at = begin + 1
    while at < len(line):
        match = _pattern(item).match(line, at)
        if match is None:
            return None
        found[match["name"]] = _value(match["value"])
        at = match.end()
    return FrameworkLine(found)


def _json_line(line: str) -> FrameworkLine | None:
    """A line of JSON: `{"step": 100, "loss": 0.25}`, also with mappings in it."""
    begin = line.find('{"')
    if begin < 0 or not line.endswith("}"):
        return None
    try:
        record = json.loads(line[begin:])
    except (ValueError, RecursionError):
        return None
    return _counted(dict(flat_numbers(record)))


def flat_numbers(record: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record with their names; those of a mapping in it are `train/loss`."""
    if isinstance(record, dict) and depth < _DEPTH:
        for name, value in record.items():
            yield from flat_numbers(value, f"{prefix}/{name}" if prefix else str(name), depth + 1)
    elif isinstance(record, int | float) and not isinstance(record, bool) and prefix:
        with suppress(OverflowError):  # a whole number of 309 digits
            yield prefix[:_LONGEST_NAME], float(record)


STEP_NAMES = ("step", "global_step", "_step", "iteration", "iter", "epoch")


def _counted(found: dict[str, float]) -> FrameworkLine | None:
    """Return numbers of which one may be the step."""
    if not found:
        return None
    for name in STEP_NAMES:
        at = found.get(name, math.nan)
        if at >= 0 and float(at).is_integer() and at <= MOST_STEPS:
            unit = EPOCH if name == EPOCH else STEP
            others = {key: value for key, value in found.items() if key != name}
            return FrameworkLine(others, int(at), unit=unit)
    return FrameworkLine(found)


def _keras(line: str) -> FrameworkLine | None:
    """Keras: `938/938 ━━━━ 5s 5ms/step - accuracy: 0.96 - val_loss: 0.1`."""
    head = rf"(?:epoch \d+(?:/\d+)?\s+)?(?P<step>{_INT})/(?P<total>{_INT}|unknown) (?:[━\u2578\u257a]+|\[[=>.]+\]).*?(?= - {_NAME}: )"
    match = _pattern(head).match(line)
    if match is None:
        return None
    found = {}
    for part in line[match.end() :].split(" - ")[1:]:
        pair = _pattern(rf"({_NAME}): ({_NUM})\s*").fullmatch(part)
        if pair is None:
            return None
        found[pair[1]] = _value(pair[2])
    return FrameworkLine(found)


def _table_row(line: str) -> FrameworkLine | None:
    """A row of Lightning's table of a test: a name, blanks or a line between, and a number with a point."""
    match = _pattern(rf"[│|┃\s]*({_NAME})(?:\s*[│|┃]\s*|\s{{2,}})({_NUM})[│|┃\s]*").fullmatch(line)
    if match is None or not (match[2].lower()[-3:] in {"nan", "inf"} or set(match[2]) & set(".eE")):
        return None
    return FrameworkLine({match[1]: _value(match[2])}) if is_result_name(match[1]) else None


def _averages(line: str) -> FrameworkLine | None:
    """Lines of timm and of the example of ImageNet: `Test: [48/48]  Loss: 0.812 (1.021)`, or ` * Acc@1 76.5 Acc@5 93.1`."""
    star = _pattern(rf"\s*\*((?:\s+{_NAME}:? {_NUM})+)(?:\s+\(?.*\)?)?").fullmatch(line)
    if star is not None:
        pairs = _pattern(rf"({_NAME}):? ({_NUM})").findall(star[1])
        return FrameworkLine({name: _value(value) for name, value in pairs})
    head = _pattern(
        rf"(?P<title>[A-Za-z_]*):?\s*(?:\[?(?P<epoch>{_INT})\]?)?\s*\[\s*(?P<step>{_INT})/\s*(?P<total>{_INT})[^\]]*\]"
    ).search(line)
    if head is None:
        return None
    item = rf"({_NAME}):?\s+{_NUM}\s*\(\s*({_NUM})\s*\)"
    found = {
        name: _value(value)
        for name, value in _pattern(item).findall(line, head.end())
        if is_result_name(name)
    }
    if not found:
        return None
    if head["title"].lower().startswith(("test", "val", "eval")):
        return FrameworkLine(found)
    if head["epoch"] is not None:
        return FrameworkLine(found, int(head["epoch"]), unit=EPOCH)
    return FrameworkLine(found, int(head["step"]), int(head["total"]))


def _counts(line: str) -> FrameworkLine | None:
    """The examples of PyTorch: `Train Epoch: 2 [40000/60000 (67%)]  Loss: 0.12`, `Accuracy: 9600/10000 (96%)`."""
    train = _pattern(
        rf"\w* ?epoch: (?P<epoch>{_INT}) \[{_INT}/{_INT} \({_NUM}%\)\]\s+(?P<name>{_NAME}): (?P<value>{_NUM})"
    ).fullmatch(line)
    if train is not None:
        return FrameworkLine(
            {train["name"]: _value(train["value"])}, int(train["epoch"]), unit=EPOCH
        )
    share = rf"(?P<name>{_NAME}):? (?P<right>{_INT})/(?P<all>{_INT}) \(\s*{_NUM} ?%\)"
    match = _pattern(share).search(line)
    if match is None or int(match["all"]) == 0 or not is_result_name(match["name"]):
        return None
    before = line[: match.start()].rstrip(" ,")
    found = {}
    if pair := _pattern(rf"(?:.*: )?({_WORDS}): ({_NUM})").fullmatch(before):
        found[pair[1]] = _value(pair[2])
    return FrameworkLine({**found, match["name"]: int(match["right"]) / int(match["all"])})


def _boosting(line: str) -> FrameworkLine | None:
    """XGBoost and LightGBM: `[10]  valid-auc:0.93  train-auc:0.99`; CatBoost: `10:  learn: 0.6  test: 0.7`."""
    match = _pattern(rf"(?:\[(?P<a>{_INT})\]|(?P<b>{_INT}):)\t(?P<rest>.+)").fullmatch(line)
    if match is None:
        return None
    found = {}
    for part in match["rest"].split("\t"):
        pair = _pattern(
            rf"([^\W\d][\w@'. +-]{{0,63}}): ?({_NUM})(?:[+±]{_NUM}| \({_INT}\)| \+ {_NUM})?"
        )
        item = pair.fullmatch(part.strip())
        if item is not None and is_result_name(item[1]):
            found[item[1]] = _value(item[2])
        elif item is None and not _pattern(rf"[\w ]+: ?{_NUM}[a-z]+.*").fullmatch(part.strip()):
            return None
    return FrameworkLine(found, int(match["a"] or match["b"])) if found else None


def _pairs(line: str) -> FrameworkLine | None:
    """`epoch 3/10  loss: 0.2, acc = 0.9`: only a count and pairs, behind the prefix of a logger."""
    text = line.strip().strip("|*•> ")
    prefix = _pattern(_PREFIX).match(text)
    text = text[prefix.end() :] if prefix else text
    step, total, unit = None, None, STEP
    while counted := _pattern(_COUNTED).match(text):
        if _pattern(r"[\w.%=]").match(text, counted.end()):
            break
        if step is None:
            step, unit = int(counted["step"]), EPOCH if counted["unit"].lower() == EPOCH else STEP
            total = int(counted["total"]) if counted["total"] else None
        text = text[counted.end() :].lstrip(" \t:,|-→")
    if step is not None and not text:
        return FrameworkLine({}, step, total, unit)
    title = _pattern(rf"(?:[A-Za-z][\w ]{{0,24}}:)\s+(?={_WORDS}\s?[:=])").match(text)
    text = text[title.end() :] if title else text
    found: dict[str, float] = {}
    for part in re.split(_SEPARATOR, text.rstrip(".,; ")):
        if not part:
            continue
        pair = _pattern(_PAIR).fullmatch(part.strip())
        if pair is None and step is not None:
            pair = _pattern(_SPACED).fullmatch(part.strip())
        if pair is None:
            measured = _pattern(_MEASURED).fullmatch(part.strip())
            if measured is None or is_result_name(measured["name"]):
                return None
            continue
        value = _value(pair["value"])
        name = pair["name"]
        if name.lower() in STEP_NAMES and value.is_integer() and step is None and value >= 0:
            step, unit = int(value), EPOCH if name.lower() == EPOCH else STEP
        elif is_result_name(name):
            found[name] = value
    if not found and step is None:
        return None
    return FrameworkLine(found, step, total, unit)


_FORMS = (
    _Form(b"{'", _dictionary),
    _Form(b'{"', _json_line),
    _Form(b"/", _keras),
    _Form(b"(", _counts),
    _Form(b"", _averages),
    _Form(b"\t", _boosting),
    _Form(b"", _pairs),
    _Form(b".", _table_row),
)


def parse_framework_line(line: bytes) -> FrameworkLine | None:
    """Return the content of a line without its end, None if no form reads it."""
    if len(line) > LONGEST_BYTES or not any(48 <= byte <= 57 for byte in line):
        return None
    plain = PlainTextFilter().feed(line) if b"\x1b" in line else line
    text = plain.decode(errors="replace").rstrip()
    for form in _FORMS:
        if form.mark in line and (found := form.read(text)) is not None:
            return found
    return None


def parse_newest_framework_step(text: bytes, at: float) -> ProgressReport | None:
    """Return the newest step in the end of a log, with the numbers that were printed after it."""
    metrics: dict[str, float] = {}
    for _, line in zip(range(MOST_LINES), _lines_backwards(text), strict=False):
        found = parse_framework_line(line)
        if found is None:
            continue
        metrics = {**found.metrics, **metrics}
        if (report := found.report(at)) is not None:
            return report._replace(metrics=metrics)
    return None


def newest_framework_numbers(text: bytes) -> dict[str, float]:
    """Return the numbers of the newest line with some in the end of a log."""
    for _, line in zip(range(MOST_LINES), _lines_backwards(text), strict=False):
        if (found := parse_framework_line(line)) is not None and found.metrics:
            return {**found.metrics}
    return {}


def first_framework_steps(text: bytes) -> list[ProgressReport]:
    """Return the first step with numbers in the beginning of a log, in a list; empty if there is none."""
    return [*islice(_steps(text, 0.0), 1)]


def _steps(text: bytes, at: float) -> Iterator[ProgressReport]:
    for line in LINE_END.split(text)[:-1]:
        found = parse_framework_line(line)
        if found is not None and found.metrics and (report := found.report(at)) is not None:
            yield report


def parse_framework_steps(text: bytes, at: float) -> tuple[list[ProgressReport], int]:
    """Return the steps with numbers in a piece of a log, and where an unfinished line may begin."""
    steps = [*_steps(text, at)]
    last = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
    return steps, last if len(text) - last < LONGEST_BYTES else len(text)


def parse_printed_numbers(text: bytes) -> dict[str, float]:
    """Return the last value of each number in the end of a log: those of the last block of lines come first.

    The block ends above a line that no form reads, and above a name that it has already. Other numbers count if they
    were printed at least twice. So settings that a script prints once, when it starts, do not count. A line that no
    form reads has the numbers of its pairs, such as `saved with loss=0.5`, and is a block of its own.
    """
    values: dict[str, float] = {}
    times: dict[str, int] = {}
    found: list[tuple[Mapping[str, float], bool]] = []
    for line in LINE_END.split(text):
        if not line or line.isspace():
            continue
        form = parse_framework_line(line)
        numbers = parse_plain_pairs(line) if form is None else form.metrics
        found.append((numbers, form is not None))
        for name, value in numbers.items():
            times[name] = times.get(name, 0) + 1
            values[name] = value
    block: dict[str, float] = {}
    for numbers, has_form in reversed(found):
        if block and not (has_form and block.keys().isdisjoint(numbers)):
            break
        block = {**numbers, **block}
        if numbers and not has_form:
            break
    kept = {name: value for name, value in values.items() if times[name] > 1 and name not in block}
    return block | kept


def _lines_backwards(text: bytes) -> Iterator[bytes]:
    yield from reversed(LINE_END.split(text))
