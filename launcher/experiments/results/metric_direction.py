"""Which values of a metric are better: low ones, high ones, or unknown.

A search, `--best`, the page of a run and the database of results all ask here. A wrong direction shows the worst model
as the best one. So a name with words of both directions has none, unless its last word surely is the metric.
"""

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from launcher.experiments.kind_interface import Kind, RanksMetrics
from launcher.experiments.results.metric_words import HIGH, LOW, PHRASES, SENSES, Sense
from launcher.system.errors import UsageError
from launcher.system.lazy_regex import compile_lazily


class Direction(StrEnum):
    """The better values of a metric, as `--search acc:max` and `--best acc:max` spell them."""

    MIN = "min"
    MAX = "max"

    @property
    def is_low(self) -> bool:
        """Whether lower values are better."""
        return self is Direction.MIN

    @property
    def superlative(self) -> str:
        """The best value in a sentence: lowest or highest."""
        return "lowest" if self.is_low else "highest"

    @property
    def opposite(self) -> "Direction":
        """The other direction."""
        return Direction.MAX if self.is_low else Direction.MIN


_SPELLINGS = {
    "min": Direction.MIN, "low": Direction.MIN, "max": Direction.MAX, "high": Direction.MAX,
}  # fmt: skip
_DIRECTIONS_ELSEWHERE = (  # the words of other tools, which end no metric
    "up down minimize maximize minimise maximise minimum maximum lower higher lowest highest asc desc"
)
_OTHER_SPELLINGS = frozenset(_DIRECTIONS_ELSEWHERE.split())
# the parts of a word in mixed letters or with digits inside: MeanIoU, R2Score, top5err
_PIECE = compile_lazily(r"[A-Z]{2,}(?![a-z])\d*|[A-Z]?[a-z]+\d*|[A-Z]\d*|\d+|[^\W\d_A-Za-z]+")
_CHUNK = compile_lazily(r"[^\W_]+|@")
_PER_SECOND = compile_lazily(r"/\s*(?=(?:s|sec|second)$)")
_COMPLEMENT = compile_lazily(r"^(?:\W*1)?\s*[-\u2212]+\s*[^\W\d]")  # 1-ssim, -log_likelihood
_MOST_WORDS = max(map(len, PHRASES))
# endings of words without a border, such as valloss; the first that fits counts
_ENDINGS: Sequence[tuple[tuple[str, ...], Sense]] = tuple(
    (tuple(words.split()), sense)
    for words, sense in (
        ("loss losses", Sense.LOSS),
        (
            "error errors entropy deviance divergence perplexity rmse rmsle mape mae mse nll ppl",
            Sense.ERROR,
        ),
        ("distance", Sense.QUANTITY),
        ("accuracy auc auroc auprc psnr bleu", Sense.STATISTIC),
        ("acc recall precision f1", Sense.PER_CLASS),
        ("iou dice ssim", Sense.REGION),
        ("reward", Sense.REWARD),
        ("score", Sense.SCORE),
    )
)
_BEGINNINGS = ("pearson", "spearman", "kendall", "rouge", "bleu")  # spearmanr, rougeLsum, bleurt
_OPPOSING = ("anti", "dis", "im", "in", "mis", "non", "un")  # inaccuracy
_INCEPTION = "is"  # the inception score; in other names a word without a meaning
_BEFORE_INCEPTION = "train val valid validation test eval dev best mean avg average"
_PHASES = frozenset(_BEFORE_INCEPTION.split())


class _Unit(NamedTuple):
    """A word or a phrase of a name."""

    text: str
    sense: Sense


def direction_of(
    metric: str, kinds: Iterable[Kind] = (), *, is_table_column: bool = False
) -> Direction | None:
    """Return the better direction of a metric, None if it is unknown.

    Args:
        metric: Name of the metric.
        kinds: Kinds of the jobs; those with `RanksMetrics` define it for their metrics.
        is_table_column: Whether the metric is a column of a plugin package's table. Such a kind lists all columns
            that are better low, so that a name without a meaning is better high.
    """
    ranking = [kind for kind in kinds if isinstance(kind, RanksMetrics) and kind.lower_is_better]
    if any(metric in kind.lower_is_better for kind in ranking):
        return Direction.MIN
    named = _direction_of_name(metric)
    return Direction.MAX if named is None and ranking and is_table_column else named


def split_direction(text: str, spelling: str) -> tuple[str, Direction | None]:
    """Return the metric of `acc:max` or `acc`, and its direction if it has one.

    A metric may contain colons: only a direction behind the last one is taken off.

    Args:
        text: As typed.
        spelling: How a message spells it: `--best {}`.

    Raises:
        UsageError: the metric is missing, or the direction is spelled as in other tools.
    """
    metric, colon, word = text.rpartition(":")
    if colon and not metric.strip():
        raise UsageError(
            f"{spelling.format(text)}: the metric is missing. Write {spelling.format('acc:max')}."
        )
    if colon and word.casefold() in _OTHER_SPELLINGS:
        low, high = (spelling.format(f"{metric}:{each}") for each in Direction)
        raise UsageError(f"{spelling.format(text)}: expected min or max. Write {low} or {high}.")
    direction = _SPELLINGS.get(word)
    return (text, None) if direction is None else (metric, direction)


def unknown_direction(
    spelling: str, words: Sequence[str], unknown_names: Collection[str]
) -> UsageError:
    """Return the error about metrics whose direction is unknown.

    Args:
        spelling: How a message spells their list: `--search {}`.
        words: The metrics as typed, some with a direction.
        unknown_names: Those whose direction is unknown.
    """
    low, high = (
        spelling.format(
            ",".join(f"{word}:{each}" if word in unknown_names else word for word in words)
        )
        for each in Direction
    )
    names = " and ".join(map(repr, unknown_names))
    subject = f"the name {names} does" if len(unknown_names) == 1 else f"the names {names} do"
    return UsageError(
        f"{spelling.format(','.join(words))}: {subject} not say whether low or high values are better. "
        f"Write {low} or {high}."
    )


def _direction_of_name(metric: str) -> Direction | None:
    if _COMPLEMENT.match(metric):
        return None
    words = _words_of(metric)
    if words[-1:] == [_INCEPTION] and _PHASES.issuperset(words[:-1]):
        return Direction.MAX
    units = [*_units_of(words)]
    senses = [unit.sense for unit in units]
    head = units[: senses.index(Sense.AT)] if Sense.AT in senses else units
    if any(_is_known(unit) for unit in head):
        units = head
    return _decide(units)


def _words_of(metric: str) -> list[str]:
    """Return the words of a name, in lower case and without the digits at their ends, if these say nothing."""
    text = _PER_SECOND.sub(" per ", unicodedata.normalize("NFKC", metric))
    return [word for chunk in _CHUNK.findall(text) for word in _words_of_chunk(chunk)]


def _words_of_chunk(chunk: str) -> list[str]:
    """Return the words of letters and digits without a border: one if it is known as it is."""
    if chunk == "@":
        return ["at"]
    whole = chunk.casefold()
    if whole in SENSES:
        return [whole]
    pieces = [piece.casefold() for piece in _PIECE.findall(chunk)]
    return [piece if piece in SENSES else _without_digits(piece) for piece in pieces]


def _without_digits(word: str) -> str:
    """Return a word without the digits at its end if it is known then: ndcg10, loss1."""
    short = word.rstrip("0123456789")
    return short if short and _sense_of(short) is not Sense.NEUTRAL else word


def _units_of(words: Sequence[str]) -> Iterable[_Unit]:
    """Yield the phrases and words of a name; the longest phrase counts."""
    at = 0
    while at < len(words):
        size = next(
            (n for n in range(_MOST_WORDS, 1, -1) if tuple(words[at : at + n]) in PHRASES), 1
        )
        part = tuple(words[at : at + size])
        yield _Unit(" ".join(part), PHRASES.get(part) or _sense_of(part[0]))
        at += size


def _sense_of(word: str) -> Sense:
    if word in SENSES:
        return SENSES[word]
    if word.startswith("neg"):  # negloss: a turned loss, or the loss of negative samples
        return Sense.UNSURE
    if word.startswith(_BEGINNINGS):
        return Sense.STATISTIC
    sense = next((sense for ends, sense in _ENDINGS if word.endswith(ends)), Sense.NEUTRAL)
    return Sense.UNSURE if sense in HIGH and word.startswith(_OPPOSING) else sense


def _is_known(unit: _Unit) -> bool:
    return unit.sense in LOW or unit.sense in HIGH


def _decide(units: Sequence[_Unit]) -> Direction | None:
    """Return the direction of a name by what its words say, None if they do not agree."""
    known = [at for at, unit in enumerate(units) if _is_known(unit)]
    if not known or any(unit.sense is Sense.UNSURE for unit in units):
        return None
    turned = next((at for at, unit in enumerate(units) if unit.sense is Sense.NEGATIVE), None)
    if turned is not None and turned < known[0]:
        found = _decide(units[turned + 1 :])
        # neg_recall may be the recall of the negative class
        is_of_class = any(unit.sense in {Sense.PER_CLASS, Sense.REGION} for unit in units)
        return None if found is None or is_of_class else found.opposite
    last, behind = units[known[-1]], {unit.sense for unit in units[known[-1] + 1 :]}
    if Sense.UNSURE_BEHIND in behind or (
        Sense.UNSURE_BEHIND_ERROR in behind and (last.sense in LOW or last.sense is Sense.REWARD)
    ):
        return None
    return _decide_known([units[at].sense for at in known])


def _decide_known(senses: Sequence[Sense]) -> Direction | None:
    """Return the direction of words that all have one, None if they contradict each other."""
    low = {sense for sense in senses if sense in LOW}
    high = {sense for sense in senses if sense in HIGH}
    if not high or Sense.SPREAD in low:
        return Direction.MIN
    if not low - {Sense.PEAK}:
        return Direction.MAX
    if not high - {Sense.SCORE}:
        return None if low <= {Sense.QUANTITY, Sense.PEAK} else Direction.MIN
    if Sense.OPPOSED in low:
        return None
    last = [sense for sense in senses if sense not in {Sense.SCORE, Sense.PEAK}][-1]
    if last in LOW:
        return Direction.MIN
    is_target = last is not Sense.REWARD and low <= {Sense.QUANTITY, Sense.PEAK}
    if is_target:
        return Direction.MAX
    return Direction.MIN if last is Sense.REGION and low == {Sense.LOSS} else None
