"""The study of a search in memory: Optuna chooses values, and learns the results.

It is rebuilt from the queue whenever the process of the search starts. `JournalWriter` copies its log to a file behind
the search.
"""

import contextlib
import hashlib
import logging
import math
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from launcher.experiments.search.definition import SearchDefinition
from launcher.experiments.search.words import CMAES
from launcher.experiments.taskfile.domains import (
    Choice,
    Range,
    Space,
    Value,
    key_of_text,
    size_of,
    text_of,
)

MOST_REPEATED = 20  # times that values are asked again which were tried before
MOST_LISTED = 100_000  # combinations that are listed to find one that was not tried
STARTUP_TRIALS = 10  # random trials before TPE; its default
LEAST_INFINITE = 2  # steps without a finite number, before a trial is pruned for them
SHORT_RETRY_S = 2.0  # seconds before a journal is written again that a full disk refused
WRITE_EVERY_S = 1.0  # seconds between two writes of the journal, which take time from the jobs

logger = logging.getLogger(__name__)


class TrialEnd(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


_STATES = {
    TrialEnd.COMPLETE: TrialState.COMPLETE,
    TrialEnd.PRUNED: TrialState.PRUNED,
    TrialEnd.FAILED: TrialState.FAIL,
}


class TrialRecord(NamedTuple):
    """A trial as the queue has it."""

    number: int
    values: Mapping[str, Value]
    attrs: Mapping[str, Any]
    asked: float  # seconds since 1970
    end: TrialEnd | None = None  # None: the trial has not ended
    ended: float | None = None
    results: tuple[float, ...] = ()  # one per metric; of a pruned trial the last one, if any
    steps: Sequence[tuple[int, float]] = ()


class Exhausted(Exception):
    """Every combination was tried."""


class MemoryJournal(BaseJournalBackend):  # type: ignore[misc]  # as where Optuna is not installed
    """The log of a study in memory."""

    def __init__(self) -> None:
        """Begin with an empty log."""
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Return the log from an entry on."""
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add entries."""
        self.logs += logs


class JournalWriter:
    """Copies the log of a study to a file in a thread of its own. It replaces the file of an earlier process."""

    def __init__(self, journal: MemoryJournal, path: Path) -> None:
        """Begin without a file.

        Args:
            journal: The log.
            path: The file, whose folder need not exist.
        """
        self._journal, self._path = journal, path
        self._written, self._next_write_at = 0, 0.0  # monotonic
        self._file: JournalFileBackend | None = None
        self._wanted, self._closing = threading.Event(), False
        self._lock = threading.Lock()
        self.error = ""  # why the file is incomplete
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self) -> None:
        """Have the file brought up to date soon; returns at once."""
        now = time.monotonic()
        if now >= self._next_write_at:
            self._next_write_at = now + WRITE_EVERY_S
            self._wanted.set()

    def flush(self) -> bool:
        """Bring the file up to date. Return whether it is."""
        with self._lock:
            try:
                self._write_new()
            except OSError as error:
                self.error = f"cannot write {self._path}: {error.strerror or error}"
                self._file, self._written = None, 0  # the end of the file may be cut
            else:
                self.error = ""
        return not self.error

    def stop(self) -> None:
        """End the thread; another writer may replace the file then."""
        self._closing = True
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closing:
                return
            if not self.flush():
                logger.warning("%s", self.error)
                self._wanted.wait(SHORT_RETRY_S)
                self._wanted.set()

    def _write_new(self) -> None:
        end = len(self._journal.logs)
        if self._file is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._path.with_name(f".{self._path.name}.new")
            for left in (fresh, *(Path(f"{path}.lock") for path in (fresh, self._path))):
                left.unlink(missing_ok=True)  # a file of a process that was killed
            if end:
                JournalFileBackend(str(fresh)).append_logs(self._journal.logs[:end])
            fresh.replace(self._path)
            self._file = JournalFileBackend(str(self._path))
        elif end > self._written:
            self._file.append_logs(self._journal.logs[self._written : end])
        self._written = end


class DistinctSampler(optuna.samplers.BaseSampler):  # type: ignore[misc]  # as above
    """A sampler whose values were not tried before, as far as there are any, rounded as arguments are written."""

    def __init__(
        self,
        inner: optuna.samplers.BaseSampler,
        space: Space,
        tried_points: set[tuple[Value | None, ...]],
        rng: random.Random,
        trial_of: Callable[[int], FrozenTrial],
    ) -> None:
        """Begin.

        Args:
            inner: The sampler that chooses.
            space: The allowed values.
            tried_points: Combinations that were tried.
            rng: Chooses if the sampler only repeats values.
            trial_of: Returns a trial with the notes of the sampler.
        """
        self._inner, self._space, self._tried, self._rng = inner, space, tried_points, rng
        self._trial_of = trial_of

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Prepare the sampler."""
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all values, so that they are chosen in one call."""
        del study, trial
        return distributions_of(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return one combination that was not tried.

        Raises:
            Exhausted: all combinations were tried, or no new one was found.
        """
        for attempt in range(MOST_REPEATED + 1):
            if attempt:
                self._inner.before_trial(study, trial)
            chosen = self._choose(study, self._trial_of(trial.number), search_space)
            if key_of(chosen, self._space) not in self._tried:
                return chosen
        return self._choose_untried()

    def _choose(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        own = self._inner.infer_relative_search_space(study, trial)
        chosen = self._inner.sample_relative(study, trial, own)
        for name, distribution in search_space.items():
            if name not in chosen:
                chosen[name] = self._inner.sample_independent(study, trial, name, distribution)
        return {name: _round_value(self._space[name], chosen[name]) for name in self._space}

    def _choose_untried(self) -> dict[str, Any]:
        size = size_of(self._space)
        if size is None or size > MOST_LISTED:
            raise Exhausted
        combinations: list[dict[str, Any]] = [{}]
        for name, domain in self._space.items():
            combinations = [
                {**each, name: value} for each in combinations for value in categories_of(domain)
            ]
        left = [each for each in combinations if key_of(each, self._space) not in self._tried]
        if not left:
            raise Exhausted
        return self._rng.choice(left)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a value of a single parameter; never needed, because all are chosen together."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the sampler learn the end of a trial."""
        # GridSampler would stop the study
        if not isinstance(self._inner, optuna.samplers.GridSampler):
            self._inner.after_trial(study, trial, state, values)


class SearchStudy:
    """The study of one search."""

    def __init__(self, definition: SearchDefinition, name: str) -> None:
        """Begin without trials."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.definition, self.name = definition, name
        self.journal = MemoryJournal()
        self._tried: set[tuple[Value | None, ...]] = set()
        self._first_finite_step: int | None = None  # first of all trials
        self._storage = JournalStorage(self.journal)
        self.study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            directions=[
                StudyDirection.MINIMIZE if each.lower else StudyDirection.MAXIMIZE
                for each in definition.objectives
            ],
            pruner=_pruner(definition),
        )
        with warnings.catch_warnings(action="ignore"):  # the class is experimental
            self.study.set_metric_names([each.metric for each in definition.objectives])
        self._id = self.study._study_id  # noqa: SLF001  # the storage has no other name for it
        self._distributions = distributions_of(definition.space)

    def add(self, record: TrialRecord) -> None:
        """Add the next trial as the queue has it."""
        params, distributions = {}, {}
        for name, value in record.values.items():
            fitting = self._find_distribution(name, value)
            if fitting is not None:
                params[name] = category_of(self.definition.space[name], value)
                distributions[name] = fitting
        ended = record.end is not None
        self._note_finite(record.steps)
        self._tried.add(key_of(record.values, self.definition.space))
        self._storage.create_new_trial(
            self._id,
            FrozenTrial(
                number=record.number,
                state=_STATES[record.end] if record.end is not None else TrialState.RUNNING,
                value=None,
                values=[*record.results] or None if ended else None,
                datetime_start=_datetime(record.asked),
                datetime_complete=_datetime(record.ended or record.asked) if ended else None,
                params=params,
                distributions=distributions,
                user_attrs={},
                system_attrs=dict(record.attrs),
                intermediate_values=dict(record.steps),
                trial_id=-1,
            ),
        )

    def ask(self, trial_number: int) -> tuple[dict[str, Value], dict[str, Any]]:
        """Return values for the next trial, and the notes of the sampler.

        The random state depends on the seed and the number only, so that a restarted process chooses alike.

        Raises:
            Exhausted: all combinations were tried. The study may have one trial too many then.
        """
        if self._tried and size_of(self.definition.space) == 1:  # Optuna asks no sampler then
            raise Exhausted
        seed = _seed(self.definition.seed, trial_number)
        inner = self._sampler(seed)
        self.study.sampler = DistinctSampler(
            inner, self.definition.space, self._tried, random.Random(seed), self._freeze_trial
        )
        trial = self.study.ask(self._distributions)
        assert trial.number == trial_number, "trials are asked in order"
        space = self.definition.space
        self._tried.add(key_of(trial.params, space))
        values = {name: value_of_category(space[name], each) for name, each in trial.params.items()}
        is_needed = self.definition.sampler == CMAES  # CMA-ES continues from its notes
        return values, self._freeze_trial(trial_number).system_attrs if is_needed else {}

    def report(self, trial_number: int, steps: Iterable[tuple[int, float]]) -> None:
        """Record steps of a running trial."""
        trial, known = (
            self._trial_id(trial_number),
            self._freeze_trial(trial_number).intermediate_values,
        )
        new = [(step, value) for step, value in steps if step not in known]
        self._note_finite(new)
        for step, value in new:
            self._storage.set_trial_intermediate_value(trial, step, value)

    def _note_finite(self, steps: Iterable[tuple[int, float]]) -> None:
        finite = [step for step, value in steps if math.isfinite(value)]
        known = [] if self._first_finite_step is None else [self._first_finite_step]
        self._first_finite_step = min([*known, *finite], default=None)

    def should_prune(self, trial_number: int) -> bool:
        """Return whether the steps of a running trial are worse than those of others.

        A trial without any finite step is pruned as soon as another trial had one at its last step or before it. A single
        step is not enough: some programs report an infinite number first.
        """
        trial = self._freeze_trial(trial_number)
        values, first = trial.intermediate_values, self._first_finite_step
        if values and not any(map(math.isfinite, values.values())):
            return len(values) >= LEAST_INFINITE and first is not None and first <= max(values)
        with warnings.catch_warnings(action="ignore"):  # the percentile of infinite steps
            return bool(self.study.pruner.prune(self.study, trial))

    def tell(self, trial_number: int, end: TrialEnd, results: Sequence[float] = ()) -> None:
        """Record how a trial ended."""
        if end is TrialEnd.COMPLETE:
            self.study.tell(trial_number, [*results])
        else:
            values = [*results] or None
            self._storage.set_trial_state_values(self._trial_id(trial_number), _STATES[end], values)

    def importances(self) -> dict[str, float]:
        """Return the importance of each parameter for the first metric, empty if it is not known yet."""
        sign = 1.0 if self.definition.objectives[0].lower else -1.0  # low values are the good ones
        # seconds of imports for evaluators that are not used here
        sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]
        with (
            contextlib.suppress(ValueError, RuntimeError, ZeroDivisionError),
            warnings.catch_warnings(action="ignore"),  # the sign is turned below
        ):
            found = optuna.importance.get_param_importances(
                self.study,
                evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
                target=lambda trial: sign * trial.values[0],
            )
            return {name: part for name, part in found.items() if math.isfinite(part)}
        return {}

    def _find_distribution(self, name: str, value: Value) -> BaseDistribution | None:
        """Return the distribution of a value, which may be outside the range of today. None if none fits."""
        domain = self.definition.space.get(name)
        if domain is None:
            return None
        if domain.contains(value):
            return self._distributions[name]
        if isinstance(domain, Choice) or isinstance(value, str | bool):
            return None
        return _distribution(
            Range(
                min(domain.low, value), max(domain.high, value), log=domain.log, whole=domain.whole
            )
        )

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        match self.definition.sampler:
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "grid":
                space = {name: categories_of(each) for name, each in self.definition.space.items()}
                return optuna.samplers.GridSampler(space, seed=seed)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)

    def _trial_id(self, trial_number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._id, trial_number))

    def _freeze_trial(self, trial_number: int) -> FrozenTrial:
        return self._storage.get_trial(self._trial_id(trial_number))


def key_of(values: Mapping[str, Value], space: Space) -> tuple[Value | None, ...]:
    """Return what is equal for equal combinations: 1 and 1.0 are one value of a range, and two of a list."""
    return tuple(
        key_of_text(text_of(values[name]))
        if name in values and isinstance(domain, Choice)
        else values.get(name)
        for name, domain in space.items()
    )


def categories_of(domain: Range | Choice) -> list[Value]:
    """Return the values as Optuna distinguishes them: as texts if some are equal in Python, as 1, 1.0 and True are."""
    values = domain.all()
    is_ambiguous = isinstance(domain, Choice) and len({*values}) < len(values)
    return [*map(text_of, values)] if is_ambiguous else values


def category_of(domain: Range | Choice, value: Value) -> Value:
    """Return the category of a value."""
    if isinstance(domain, Choice) and domain.contains(value):
        places = [text_of(each) for each in domain.values]
        return categories_of(domain)[places.index(text_of(value))]
    return value


def value_of_category(domain: Range | Choice, category: Value) -> Value:
    """Return the value of a category."""
    if isinstance(domain, Choice):
        places = [text_of(each) for each in categories_of(domain)]
        return domain.values[places.index(text_of(category))]
    return category


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """Return the distributions of a space."""
    return {name: _distribution(domain) for name, domain in space.items()}


def _distribution(domain: Range | Choice) -> BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(categories_of(domain))
    if domain.whole:
        step = int(domain.step or 1)
        return IntDistribution(int(domain.low), int(domain.last), log=domain.log, step=step)
    return FloatDistribution(domain.low, domain.last, log=domain.log, step=domain.step)


def _round_value(domain: Range | Choice, value: Any) -> Value:
    if isinstance(domain, Choice):
        return value  # type: ignore[no-any-return]
    return domain.round(value)


def _pruner(definition: SearchDefinition) -> optuna.pruners.BasePruner:
    match definition.pruner:
        case "median":
            return optuna.pruners.MedianPruner()
        case "hyperband":
            return optuna.pruners.HyperbandPruner()
    return optuna.pruners.NopPruner()


def _seed(seed: int, trial_number: int) -> int:
    digest = hashlib.sha256(f"{seed}/{trial_number}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
