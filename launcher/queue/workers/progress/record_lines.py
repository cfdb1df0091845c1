"""Records in one line or several: dictionaries as Python prints them, lists of pairs, and JSON."""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from launcher.queue.workers.progress.line_content import FormLine, compile_pattern, number
from launcher.queue.workers.progress.number_texts import MOST_STEPS, NUMBER, to_number
from launcher.queue.workers.progress.pair_lines import EPOCH, read_pairs
from launcher.queue.workers.progress.result_names import SETTING, TIME, reason_against
from launcher.queue.workers.progress.steps import STEP

STEP_NAMES = (
    "step", "global_step", "_step", "iteration", "iter", "it", "epoch", "env_step", "train_step",
)  # fmt: skip
_DEPTH = 4  # depth of mappings in a record
_LONGEST_NAME = 128  # characters
CONFIG_WORDS = re.compile(
    r"\b(?:config\w*|cfg|params?|parameters|hyper-?param\w*|hparams|args|arguments|kwargs|settings|options|namespace|gen_kwargs"
    r"|weights|betas|device|environment|env|tags|defaults|sizes|shapes|counts|timings?|times|usage)\b",
    re.IGNORECASE,
)

_WRAPPERS = frozenset(
    {"metric", "metrics", "results", "result", "scores", "score", "values", "summary"}
)


class _Title(NamedTuple):
    """The text before a record."""

    words: str = ""
    step: int | None = None
    total: int | None = None
    unit: str = STEP


_ITEM = (
    r"\s*'(?P<name>[^']{1,96})': (?:np\.\w+\(|tensor\(|array\()?['\"]?"
    rf"(?P<value>{NUMBER})['\"]?(?:, (?:dtype|device)=[^)]*)?\)?(?P<end>, |\}}|$)"
)
_WRAPPED = r"(?:np\.\w+|tensor|array|OrderedDict|defaultdict)\("
_NOT_LITERAL = r"(?<=[:\[(, ])(?:nan|inf|-inf)(?=[,\])}])"


def _read_title(previous_line: str) -> _Title | None:
    """Return what stands before a record; None if it is a sentence."""
    text = previous_line.strip(" \t:-=>|*")
    for name in ("OrderedDict(", "OrderedDict", "Metrics(", "metrics="):
        text = text.removesuffix(name).strip(" \t:-=>|*")
    if not text:
        return _Title()
    if counted := read_pairs(text):
        if counted.pairs:
            return None
        return _Title(counted.title, counted.step, counted.total, counted.unit)
    if (
        previous_line.rstrip()[-1] in ":-=>|("
        and len(text) <= 60
        and not compile_pattern(r"[=<>{}()]").search(text)
    ):
        return _Title(text)
    return None


def read_dictionary(line: str) -> FormLine | None:
    """Return the numbers of a dictionary as Python prints it; None if the line is something else."""
    begin = line.find("{")
    text = line[begin:].rstrip(" .)")
    if not text.endswith("}") or (title := _read_title(line[:begin])) is None:
        return None
    items = _python_items(text)
    if items is None:
        return None
    return _record_line(items, title)


def _python_items(text: str) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    place, item = 1, compile_pattern(_ITEM)
    while match := item.match(text, place):
        found[match["name"]] = number(match["value"])
        place = match.end()
        if match["end"] == "}":
            return found if place == len(text) else None
    if place == 1 and not text.startswith(("{'", '{"')):
        return None
    plain = compile_pattern(_WRAPPED + r"(-?[^()]*?)(?:, (?:dtype|device)=[^()]*)?\)").sub(
        r"\1", text
    )
    plain = compile_pattern(_NOT_LITERAL).sub("None", plain)
    try:
        record = ast.literal_eval(plain)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return record if isinstance(record, dict) else None


def read_pair_list(line: str) -> FormLine | None:
    """Return the numbers of a list of pairs; None if the line is something else."""
    match = compile_pattern(
        r"(?P<before>.*?)(?:OrderedDict\()?\[(?P<items>\('[^']+', .+\))\]\)?"
    ).fullmatch(line)
    if match is None or (title := _read_title(match["before"])) is None:
        return None
    pair = rf"\('([^']{{1,96}})', (?:np\.\w+\(|tensor\()?'?({NUMBER})'?\)?\)"
    items = compile_pattern(rf"{pair}(?:, {pair})*").fullmatch(match["items"])
    if items is None:
        return None
    found = {name: number(value) for name, value in compile_pattern(pair).findall(match["items"])}
    return _record_line(found, title)


def read_json_line(line: str) -> FormLine | None:
    """Return the numbers of a line of JSON; None if the line is something else."""
    begin = line.find('{"')
    if not line.endswith("}") or (title := _read_title(line[:begin])) is None:
        return None
    try:
        record = json.loads(line[begin:])
    except (ValueError, RecursionError):
        return None
    return _record_line(record, title) if isinstance(record, dict) else None


def _record_line(record: Mapping[str, Any], title: _Title) -> FormLine | None:
    if CONFIG_WORDS.search(title.words):
        return FormLine(step=title.step, total=title.total, unit=title.unit)
    numbers = dict(flat_numbers(record, is_log_record=True))
    step, unit = title.step, title.unit
    if not numbers and step is None:
        return None
    is_trainer = _is_trainer(numbers)
    if step is None and not is_trainer:
        name = next((each for each in STEP_NAMES if is_step(numbers.get(each))), None)
        if name is not None:
            step, unit = int(numbers[name]), EPOCH if name == EPOCH else STEP
    results = [item for item in numbers.items() if item[0] not in STEP_NAMES]
    if not is_trainer and are_settings(name for name, _ in results):
        return FormLine()
    return FormLine(tuple(results), step, title.total, unit, title.words, is_known=is_trainer)


def are_settings(names: Iterable[str]) -> bool:
    """Return whether most names of a record are those of settings."""
    reasons = [reason_against(name) for name in names]
    settings = reasons.count(SETTING) + reasons.count(TIME)
    return reasons.count(SETTING) >= 3 and settings >= reasons.count("")


def is_step(value: float | None) -> bool:
    """Return whether a number can count steps."""
    return value is not None and 0 <= value <= MOST_STEPS and float(value).is_integer()


def _is_trainer(numbers: dict[str, float]) -> bool:
    return EPOCH in numbers and any(
        name == "loss" or name.startswith(("eval_", "train_", "test_")) for name in numbers
    )


def flat_numbers(
    record: Any, prefix: str = "", depth: int = 0, *, is_log_record: bool = False
) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record with their names; those of a mapping in it are `train/loss`.

    Args:
        record: As JSON has it.
        prefix: Name of the record.
        depth: Number of records around it.
        is_log_record: It was printed. Then numbers as texts count, mappings of settings do not, and a mapping that is only
            called `results` does not become part of a name.
    """
    if isinstance(record, dict) and depth < _DEPTH:
        for name, value in record.items():
            inner = f"{prefix}/{name}" if prefix else str(name)
            if is_log_record and isinstance(value, dict):
                if CONFIG_WORDS.search(str(name)):
                    continue
                inner = prefix if str(name).lower() in _WRAPPERS else inner
            yield from flat_numbers(value, inner, depth + 1, is_log_record=is_log_record)
    elif isinstance(record, bool) or not prefix:
        return
    elif isinstance(record, int | float):
        with suppress(OverflowError):  # a whole number of 309 digits
            yield prefix[:_LONGEST_NAME], float(record)
    elif is_log_record and isinstance(record, str) and compile_pattern(NUMBER).fullmatch(record):
        if (value := to_number(record)) is not None:
            yield prefix[:_LONGEST_NAME], value
    elif is_log_record and isinstance(record, list | tuple) and len(record) == 1:
        yield from flat_numbers(record[0], prefix, depth + 1, is_log_record=True)


def parse_record(text: str) -> dict[str, Any] | list[Any] | None:
    """Return a record of several lines, as JSON or Python has it; None if the text is something else."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        plain = compile_pattern(_WRAPPED + r"(-?[^()]*?)(?:,\s*(?:dtype|device)=[^()]*)?\)").sub(
            r"\1", text
        )
        try:
            record = ast.literal_eval(compile_pattern(_NOT_LITERAL).sub("None", plain))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return record if isinstance(record, dict | list) else None
