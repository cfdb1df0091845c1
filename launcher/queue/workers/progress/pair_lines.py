"""Lines that consist of pairs: `epoch 3/10 | val_loss 0.21, acc = 91 % (best)`, with a counter and a title."""

import re
from typing import NamedTuple

from launcher.queue.workers.progress.number_texts import (
    AMBIGUOUS,
    MOST_STEPS,
    SHAPES,
    remember,
    to_number,
)
from launcher.queue.workers.progress.pair_patterns import (
    ARTICLE,
    AT_STEP,
    BARE_COUNT,
    BETWEEN_PARTS,
    BETWEEN_TWO,
    BLANKS,
    BRACKETED_TITLE,
    COUNTER,
    COUNTER_STARTS,
    DIGIT,
    EPOCHS,
    FRACTION,
    INSTANCE,
    INSTANCE_STARTS,
    LEADERS,
    NOISE,
    NOISE_STARTS,
    NOTHING,
    OF_BEST,
    OF_OTHERS,
    OF_TITLE,
    ONE_MINUS,
    PAIR,
    PHASE_GROUP,
    PHASE_REMARK,
    REMARK,
    RESULT_PAIR,
    STEP_WORDS,
    TITLE,
    TITLE_STEP,
    VERB,
    WIDE_NAME,
    WORDS_BEFORE_COUNT,
    WRAPPED_NAME,
)
from launcher.queue.workers.progress.result_names import SETTING, TIME, reason_against
from launcher.queue.workers.progress.steps import STEP

EPOCH = "epoch"
DIFFERENCE = "a difference"
OTHERS = "it is a goal, or from an earlier run"
_UNREAD: set[str] = set()  # shapes of lines that contain other text
_MEANS = frozenset({"avg", "mean", "average"})  # titles in brackets of a phase as a whole


class Pair(NamedTuple):
    """A name and its number."""

    name: str
    value: float
    text: str  # the number as printed
    title: str = ""  # title of the number's part of the line
    reason: str = ""  # why the number is no result, by its unit or value
    mean: float | None = None  # a second number in brackets behind it
    spread: float | None = None


class PairLine(NamedTuple):
    """The content of a line of pairs."""

    pairs: tuple[Pair, ...] = ()
    step: int | None = None
    total: int | None = None
    unit: str = STEP
    title: str = ""
    is_instance: bool = False  # the title names one of several, such as a fold
    counters: int = 0
    is_mean: bool = False  # the numbers are those of a phase as a whole
    batch: tuple[int, int] | None = None  # within the epoch, of how many


def read_pairs(text: str) -> PairLine | None:
    """Return the pairs of a line that consists of nothing else; None if it contains other text."""
    shape = text.translate(SHAPES)
    if shape in _UNREAD or not DIGIT.search(text) or ONE_MINUS.match(text):
        return None
    found = _PairScanner(text).scan()
    if found is None:
        remember(_UNREAD, shape)
    return found


class _PairScanner:
    """Reads a line from left to right, part by part."""

    def __init__(self, text: str) -> None:
        self._step: int | None = None
        self._total: int | None = None
        self._unit = STEP
        if STEP_WORDS.search(text) and (dated := AT_STEP.search(text)):
            self._step = int(dated["step"]) if dated["step"] else None
            text = text[: dated.start()] + text[dated.end() :]
        if "...." in text:
            text = LEADERS.sub(" ", text)
        if "  " in text:
            text = WIDE_NAME.sub(" ", text)
        self._text, self._place = text, 0
        if first := BARE_COUNT.match(text):
            self._step, self._place = int(first[1]), first.end()
        self._has_groups = "(" in text or "[" in text or "{" in text
        self._pairs: list[Pair] = []
        self._title, self._is_instance, self._is_mean = "", False, False
        self._counters = 0
        self._batch: tuple[int, int] | None = None

    def scan(self) -> PairLine | None:
        """Return the content of the line; None if a part does not belong to a line of pairs."""
        text = self._text
        while True:
            if skipped := BETWEEN_PARTS.match(text, self._place):
                self._place = skipped.end()
            if self._place >= len(text) or NOTHING.match(text, self._place):
                break
            if not self._take_part(text[self._place]):
                if not self._pairs or not (self._is_wrapped() or self._is_remark()):
                    return None
                break
        if not self._pairs and self._step is None and not self._is_instance:
            return None
        if self._step is not None and self._step > MOST_STEPS:
            self._step = self._total = None
        title = self._title
        pairs = tuple(each if each.title else each._replace(title=title) for each in self._pairs)
        total = self._total or None
        return PairLine(
            pairs, self._step, total, self._unit, title, self._is_instance, self._counters, self._is_mean,
            self._batch if self._step is not None and self._unit == EPOCH else None,
        )  # fmt: skip

    def _is_remark(self) -> bool:
        """Return whether the rest of a line with a counter is a sentence without a number that could count."""
        if self._step is None or not REMARK.match(self._text, self._place):
            return False
        names = RESULT_PAIR.findall(self._text, self._place)
        return all(reason_against(name) for name in names)

    def _is_wrapped(self) -> bool:
        """Return whether the rest is a name whose number is in the next line."""
        rest = self._text[self._place :].strip()
        is_name = not DIGIT.search(rest) and WRAPPED_NAME.fullmatch(rest) is not None
        return is_name and not reason_against(rest)

    def _take_part(self, first: str) -> bool:
        """Read the part that begins with a character; False if it is none of a line of pairs."""
        return (
            (first in COUNTER_STARTS and self._take_counter())
            or (first in INSTANCE_STARTS and self._take_instance())
            or ((first.isdigit() or first in "[(第") and self._take_fraction(first))
            or (self._has_groups and self._take_group())
            or self._take_pair(first)
            or self._take_noise()
            or self._take_title()
        )

    def _take(self, match: "re.Match[str] | None") -> bool:
        if match is None:
            return False
        self._place = match.end()
        return True

    def _take_counter(self) -> bool:
        match = COUNTER.match(self._text, self._place)
        if match is None:
            return False
        word, total = match["unit"].lower().split()[-1], match["total"]
        if not total and (word == "t" or (word.endswith("s") and match.end() >= len(self._text))):
            return False  # `Iterations 6` says how many there were
        self._counters += 1
        if not OF_BEST.search(self._title) and (
            self._step is None or (self._total is None and total and not self._pairs)
        ):
            self._step, self._total = int(match["step"]), int(total) if total else None
            self._unit = EPOCH if word in EPOCHS else STEP
        elif word not in EPOCHS and total:
            self._batch = int(match["step"]), int(total)
        return self._take(match)

    def _take_fraction(self, first: str) -> bool:
        match = FRACTION.match(self._text, self._place)
        if match is None or (self._pairs and first not in "[("):
            return False
        self._counters += 1
        if self._step is None:
            total = match["total"] or match["ctotal"]
            self._step = int(match["step"] or match["cstep"])
            self._total = int(total) if total else None
            self._unit = EPOCH if match["cstep"] else STEP
        elif match["step"]:
            self._batch = int(match["step"]), int(match["total"])
        return self._take(match)

    def _take_instance(self) -> bool:
        match = INSTANCE.match(self._text, self._place)
        if match is not None and not self._pairs and not self._title:
            self._title, self._is_instance = match["title"], True
        return self._take(match)

    def _take_group(self) -> bool:
        match = PHASE_GROUP.match(self._text, self._place)
        if match is not None:
            self._title = match["title"]
        return self._take(match)

    def _take_pair(self, first: str) -> bool:
        match = PAIR.match(self._text, self._place)
        if match is None:
            return False
        is_spaced = match["between"].isspace()
        if is_spaced and match["name"].rpartition(" ")[2].lower() in BETWEEN_TWO:
            return False
        if is_spaced and " " in match["name"] and OF_TITLE.match(self._text, match.end()):
            return False
        if first in NOISE_STARTS:
            noise = NOISE.match(self._text, self._place)
            if noise is not None and noise.end() >= match.end():
                return self._take(noise)
        self._pairs.append(_pair(match, self._title))
        return self._take(match)

    def _take_noise(self) -> bool:
        return self._take(NOISE.match(self._text, self._place))

    def _take_title(self) -> bool:
        if match := BRACKETED_TITLE.match(self._text, self._place):
            words = match["title"]
            if self._pairs and NOTHING.match(self._text, match.end()):
                return self._take(match)  # `[best]` behind all pairs
            if words.lower() in _MEANS:
                self._is_mean = True
            elif not self._is_instance:
                self._title = f"{self._title} {words}".strip()
            return self._take(match)
        if self._pairs:
            return False
        match = WORDS_BEFORE_COUNT.match(self._text, self._place)
        match = match or TITLE.match(self._text, self._place)
        if match is not None:
            words = TITLE_STEP.sub("", match["title"].strip())
            joined = f"{self._title} {words}".strip()
            self._title = self._title or words if self._is_instance else joined
        return self._take(match)


def _pair(match: "re.Match[str]", title: str) -> Pair:
    value, reason = to_number(match["value"]), ""
    if value is None:
        value, reason = 0.0, AMBIGUOUS
    elif match["time"]:
        reason = TIME
    elif match["size"]:
        reason = SETTING
    elif match["value"][0] == "+" and match["between"].isspace():
        reason = DIFFERENCE
    elif match["remark"] and OF_OTHERS.fullmatch(match["remark"]):
        reason = OTHERS
    if match["remark"] and (phase := PHASE_REMARK.fullmatch(match["remark"])):
        title = phase[1]
    is_mean = (
        match["mean"]
        and not match["mean"].isdigit()
        and (not match["mean_share"] or match["share"])
    )
    mean = to_number(match["mean"]) if is_mean else None
    spread = match["spread"] or match["std"]
    name = BLANKS.sub(" ", match["name"]).strip()
    return Pair(
        VERB.sub("", ARTICLE.sub("", name)),
        value,
        match["value"],
        title,
        reason,
        mean,
        to_number(spread) if spread else None,
    )
