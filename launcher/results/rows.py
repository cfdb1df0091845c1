"""The results of a run: what its laboratories tell of tests and folders, with the parts of the models.

Of jobs of which no laboratory tells, the numbers that each returned. The parts of a model come from its ID, and from
the settings in which the jobs of the run differ.
"""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from launcher.draft import condition_of_test, tested
from launcher.errors import IdError, MachineError
from launcher.ids import ModelId, parse_model
from launcher.job import FUNCTION, PROGRAM, Spec
from launcher.kind_interface import Kind, NamesModels, RanksMetrics, Role
from launcher.kinds import find_kinds, installed
from launcher.params import number, scalar, swept_values, varying, words_before_options
from launcher.planning.missing_packages import missing_packages
from launcher.results.result_jobs import MAKERS, TELLING, made_folder_name, state_word
from launcher.results.table import (
    CONDITION,
    DATA,
    MODEL,
    PLACE,
    POOLED,
    AbsentRow,
    Measured,
    Row,
    RunResults,
    leaves,
    names_of,
    of_result,
)
from launcher.signatures import program_signature
from launcher.states import State
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.tags import REMOVED
from launcher.system.executables import script_of, without_wrappers
from launcher.system.files import Json
from launcher.system.paths import Home
from launcher.workers.progress.attempt_progress import last_metrics


def settings_of(spec: Spec) -> Mapping[str, Any]:
    """Return the settings of a job; of a program or a function its parameters."""
    return spec.params if spec.kind in {PROGRAM, FUNCTION} else spec.settings


def swept(specs: Iterable[Spec], kinds: Mapping[str, Kind]) -> dict[str, tuple[str, ...]]:
    """Return kind → names of the settings in which its jobs differ, in the order of the settings.

    Settings that cannot change a result, such as a number of threads, are none of them.

    Args:
        specs: of the jobs of a run.
        kinds: by name, those that are installed.
    """
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for spec in specs:
        by_kind.setdefault(spec.kind, []).append(settings_of(spec))
    return {
        name: tuple(key for key in varying(those) if key not in _neutral(kinds.get(name)))
        for name, those in by_kind.items()
    }


def _neutral(kind: Kind | None) -> frozenset[str]:
    return frozenset() if kind is None else kind.settings.neutral


SEED = "seed"
OF_DATA, OF_LABELS, LABELS_KIND, OF_METHODS = "#", "%", "%kind", "~"  # parts of a model's ID
TRAINED = "train"  # the method of a model from which nothing was unlearned
_LONGEST = 64  # stages of a model: a base of its own base would have no end


class Models:
    """The models of a run; asked by their IDs."""

    def __init__(
        self, specs: Sequence[Spec], kinds: Mapping[str, Kind], among: Sequence[Spec] = ()
    ) -> None:
        """Look through the jobs of a run.

        Args:
            specs: of the jobs.
            kinds: of the jobs, by name, those that are installed.
            among: jobs of other runs; settings in which the run differs from them count as swept, too.
        """
        self._kinds = kinds
        self._of_id = {
            column: part
            for kind in kinds.values()
            if isinstance(kind, NamesModels)
            for column, part in kind.model_columns.items()
        }
        self.parts = (*self._of_id, SEED)  # columns of what a model is made of
        makers = [spec for spec in specs if spec.role in MAKERS and spec.model]
        self.makers = {str(spec.model): spec for spec in makers}
        others = [spec for spec in among if spec.role in MAKERS and spec.model]
        self._by_kind = swept([*makers, *others], kinds)
        named = {name for spec in makers for name in self._named(spec).values()} | {SEED}
        named |= {column for column, part in self._of_id.items() if part == OF_METHODS}
        names = dict.fromkeys(name for those in self._by_kind.values() for name in those)
        self.swept = tuple(name for name in names if name not in named)
        self._known: dict[str, dict[str, Json]] = {}

    def columns(self, model: str) -> Mapping[str, Json]:
        """Return the parts of a model and its swept settings by column; None is what is not known."""
        if model not in self._known:
            chain = list(self._chain(model))
            parts = id_parts(model)
            self._known[model] = {
                **{column: parts.get(part) for column, part in self._of_id.items()},
                **self._named_columns(chain),
                SEED: self._value(SEED, chain),
                **{name: self._value(name, chain) for name in self.swept},
            }
        return self._known[model]

    def _chain(self, model: str | None) -> Iterator[Spec]:
        """Yield the jobs that made a model: its own, that of its base, and so on."""
        for _ in range(_LONGEST):
            spec = self.makers.get(model or "")
            if spec is None:
                return
            yield spec
            if spec.base == model:
                return
            model = spec.base

    def _named(self, spec: Spec) -> Mapping[str, str]:
        kind = self._kinds.get(spec.kind)
        return {} if kind is None else kind.settings.columns

    def _named_columns(self, chain: Sequence[Spec]) -> dict[str, Json]:
        """Return the columns that kinds name, as the first training had them: a network stays what it is."""
        columns: dict[str, Json] = {}
        for spec in chain:
            columns |= {
                column: scalar(settings_of(spec).get(name))
                for column, name in self._named(spec).items()
            }
        return columns

    def _value(self, name: str, chain: Sequence[Spec]) -> Json:
        """Return a swept setting: of the newest job of a kind that sweeps it, else of the newest that has it."""
        sweeping = [spec for spec in chain if name in self._by_kind.get(spec.kind, ())]
        having = [spec for spec in (*sweeping, *chain) if name in settings_of(spec)]
        return scalar(settings_of(having[0])[name]) if having else None


def shown_settings(kinds: Iterable[Kind]) -> dict[str, str]:
    """Return column → the setting, or the part of a model's ID, that it shows."""
    shown: dict[str, str] = {}
    for kind in kinds:
        shown |= kind.model_columns if isinstance(kind, NamesModels) else {}
        shown |= kind.settings.columns
    return shown


def id_parts(model: str) -> dict[str, Json]:
    """Return what a model's ID says of it by its parts; nothing of what is no ID."""
    parsed = read_model(model)
    if parsed is None:
        return {}
    poisons = [stage.poison for stage in parsed.stages if stage.poison is not None]
    methods = [method for stage in parsed.stages for method in stage.methods]
    return {
        OF_DATA: "#".join(str(stage.data) for stage in parsed.stages),
        OF_LABELS: float(poisons[-1].percent) if poisons else 0.0,
        LABELS_KIND: poisons[-1].kind if poisons else None,
        OF_METHODS: "~".join(methods) or TRAINED,
    }


def read_model(model: str) -> ModelId | None:
    """Return the model that an ID names; None of what is no ID."""
    try:
        return parse_model(model)
    except IdError:
        return None


# --- what laboratories tell, and what jobs returned


def kinds_of(jobs: Iterable[JobRow]) -> Mapping[str, Kind]:
    """Return the kinds of jobs by name, those that are installed."""
    return find_kinds(sorted({job.kind for job in jobs})).kinds


def results_of(
    jobs: Sequence[JobRow], models: Models | None = None, now: Sequence[JobRow] | None = None
) -> RunResults:
    """Return the results of a run's tests and folders, each laboratory telling its own.

    A row of a test has besides the parts of its model, the settings in which the trainings and
    unlearnings of the run differ, and the conditions under which it was done.

    Args:
        jobs: of the run.
        models: of the run, where they were looked through already.
        now: the newest jobs of the same names as they are. None if these are `jobs`.

    Raises:
        MachineError: packages that a laboratory reads its results with are not installed.
    """
    rows = _told(jobs)
    if not any(MODEL in row for row in rows):
        return RunResults(rows=rows, columns=PLACE)
    if models is None:
        models = Models([job.plain_spec for job in jobs], kinds_of(jobs))
    taken = {name for row in rows for name in row}
    used = {*taken, *models.parts}
    swept = {name: _free(name, used) for name in models.swept}
    conditions = dict.fromkeys(name for row in rows for name in _conditions(row))
    under = {name: _free(name, used | set(swept)) for name in conditions}
    described = [_described(row, models, swept, under) for row in rows]
    # of a kind that names columns of its own, these come with the parts
    more = (name for row in described for name in row if name not in taken)
    columns = tuple(dict.fromkeys((MODEL, *models.parts, *more, *PLACE[1:])))
    names = names_of(described, columns)
    ordered = [{name: row[name] for name in names if name in row} for row in described]
    absent = [
        AbsentRow(_described(row, models, swept, under), why)
        for row, why in _absent_tests(jobs if now is None else now)
    ]
    return RunResults(rows=ordered, columns=columns, absent=absent)


def _absent_tests(jobs: Sequence[JobRow]) -> Iterator[tuple[Row, str]]:
    """Yield model and data of each test without a result, and why it has none."""
    absent = [
        job
        for job in jobs
        if job.state is not State.DONE and job.plain_spec.role == Role.TEST and job.plain_spec.model
    ]
    kinds = kinds_of(absent) if absent else {}
    for job in absent:
        spec = job.plain_spec
        row = {MODEL: spec.model, DATA: test_name(kinds.get(job.kind), spec), POOLED: False}
        yield row, state_word(job.state)


def test_name(kind: Kind | None, spec: Spec) -> str:
    """Return the name of a test among those of its model: its data, and under what it is done."""
    return tested(spec.data or "", "" if kind is None else kind.settings.condition(spec.settings))


def _told(jobs: Sequence[JobRow]) -> list[Row]:
    """Return the rows as the laboratories tell them."""
    done = [job for job in jobs if job.state is State.DONE and job.plain_spec.role in TELLING]
    rows: list[Row] = []
    for name in sorted({job.kind for job in done}):
        kind = installed([name]).get(name)
        if kind is None or not kind.results:
            continue
        if uninstalled := missing_packages([kind]):
            raise MachineError("; ".join(uninstalled))
        specs = [job.plain_spec for job in done if job.kind == name and _is_there(job.plain_spec)]
        if specs:
            table = laboratory_function(kind.results)
            rows += table(specs[0].run_folder, [_subject(kind, spec) for spec in specs])
    return rows


def laboratory_function(name: str) -> Any:
    """Return a function that a laboratory names as `module:function`.

    Here its code enters the command line: only a laboratory can read its files.
    """
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


class JobsOfRows:
    """Which jobs the rows of a run's results are of."""

    def __init__(
        self, jobs: Sequence[JobRow], kinds: Mapping[str, Kind], models: Models | None = None
    ) -> None:
        """Look through the jobs of a run.

        Args:
            jobs: of the run.
            kinds: of the jobs, by name, those that are installed.
            models: of the run, where they were looked through already.
        """
        self.named = {job.name: job.id for job in jobs}
        self._tests = {
            (job.plain_spec.model, test_name(kinds.get(job.kind), job.plain_spec)): job.id
            for job in jobs
            if job.plain_spec.model and job.plain_spec.data
        }
        models = models or Models([job.plain_spec for job in jobs], kinds)
        self.makers = {
            model: self.named[spec.name]
            for model, spec in models.makers.items()
            if spec.name in self.named
        }

    def test(self, row: Row) -> int | None:
        """Return the job that tested it; None of what pools tests."""
        place = str(row.get(MODEL)), str(row.get(DATA))
        return None if row.get(POOLED) else self._tests.get(place)

    def maker(self, row: Row) -> int | None:
        """Return the job that made its model."""
        return self.makers.get(str(row.get(MODEL)))


def _is_there(spec: Spec) -> bool:
    """Tell whether a made folder was left as it was; what a test wrote is its laboratory's business."""
    return spec.role != Role.FOLDER or all(Path(path).exists() for path in spec.outputs)


def _subject(kind: Kind, spec: Spec) -> tuple[str, str]:
    """Return what a table tells of a job: a model and its test, or no model and a folder."""
    if spec.role == Role.FOLDER:
        return "", made_folder_name(spec)
    return spec.model or "", test_name(kind, spec)


def _described(
    row: Row, models: Models, swept: Mapping[str, str], under: Mapping[str, str]
) -> dict[str, Any]:
    """Return a row with the columns of its model and of its test's conditions.

    Args:
        row: of a laboratory.
        models: of the run.
        swept: setting → column, of those in which trainings differ.
        under: setting → column, of those that make the conditions.
    """
    model = row.get(MODEL)
    if not isinstance(model, str):
        return {**row}
    parts = models.columns(model)
    conditions = _conditions(row)
    return {
        **{swept.get(name, name): value for name, value in parts.items()},
        **{column: conditions.get(name) for name, column in under.items()},
        **row,
    }


def _conditions(row: Row) -> dict[str, str | int | float]:
    """Return the settings that stand in the condition of a test."""
    data = row.get(DATA)
    text = row.get(CONDITION) or (condition_of_test(data) if isinstance(data, str) else "")
    pairs = (pair.partition("=") for pair in str(text).split(",") if "=" in pair)
    return {name: number(value) for name, _, value in pairs}


def _free(name: str, taken: set[str]) -> str:
    """Return the name of a setting's column; it must not hide what a laboratory tells."""
    return f"setting_{name}" if name in taken else name


JOB = "job"


class Returned(NamedTuple):
    """What a job that is done returned."""

    job: JobRow
    numbers: Measured
    texts: Mapping[str, Json]  # of a function also true and false
    is_removed: bool  # it ran under values that the task file has no more


def returned_by(
    home: Home, store: Store, jobs: Iterable[JobRow], kinds: Mapping[str, Kind]
) -> list[Returned]:
    """Return what jobs returned; of a program the numbers that it reported last.

    Jobs that are not done, or of which nothing is known, are left out.

    Args:
        home: whose jobs.
        store: its queue.
        jobs: some of them.
        kinds: of the jobs, by name, those that are installed.
    """
    done = [job for job in jobs if job.state is State.DONE]
    results = store.read.results(job.id for job in done)
    tags = store.steering.tags_of(job.id for job in done)
    returned = []
    for job in done:
        spec = job.plain_spec
        result: Mapping[str, Json] = results.get(job.id) or {}
        if not result and not spec.entry:
            result = last_metrics(job.attempt_in(home))
        if result:
            data = _data_of(job, kinds)
            numbers = of_result(spec.name, spec.model or "", data, result)
            told = leaves(result) if spec.kind == FUNCTION else ()
            texts = {name: value for name, value in told if isinstance(value, str | bool)}
            returned.append(Returned(job, numbers, texts, REMOVED in tags.get(job.id, ())))
    return returned


def rows_of(
    home: Home,
    store: Store,
    jobs: Sequence[JobRow],
    kinds: Mapping[str, Kind],
    among: Sequence[Spec] = (),
) -> RunResults:
    """Return what laboratories tell of a run, else what its jobs returned.

    Args:
        home: whose run.
        store: its queue.
        jobs: of the run.
        kinds: of the jobs, by name, those that are installed.
        among: jobs of other runs; settings in which the run differs from them are columns, too.

    Raises:
        MachineError: packages that a laboratory reads its results with are not installed.
    """
    results = results_of(jobs, Models([job.plain_spec for job in jobs], kinds, among))
    if results.rows:
        return results
    return returned_rows(returned_by(home, store, jobs, kinds), kinds, among)


def returned_rows(
    returned: Iterable[Returned],
    kinds: Mapping[str, Kind],
    among: Sequence[Spec] = (),
    now: Iterable[JobRow] = (),
) -> RunResults:
    """Return a row for each job with what it returned, and the settings in which they differ.

    Args:
        returned: by jobs of a run.
        kinds: of the jobs, by name, those that are installed.
        among: jobs of other runs; settings in which the run differs from them are columns, too.
        now: jobs of the run as they are. Those without a result that are like one with a result become absent rows.
    """
    telling = [each for each in returned if each.numbers.metrics or each.texts]
    absent = _alike_without_result(telling, now)
    specs = [each.job.plain_spec for each in telling]
    every = [*specs, *(job.plain_spec for job in absent)]
    models = Models(every, kinds)
    parts = (MODEL, *models.parts) if any(spec.model for spec in specs) else ()
    told = {name for each in telling for name in (*each.numbers.metrics, *each.texts)}
    taken = {JOB, DATA, REMOVED, *parts, *told}
    columns = {name: _free(name, taken) for name in _telling(every, among, kinds, parts)}
    rows = [
        {**_row(spec, each, models, columns), REMOVED: "yes" if each.is_removed else None}
        for spec, each in zip(specs, telling, strict=True)
    ]
    order = tuple(dict.fromkeys((JOB, *parts, *columns.values(), DATA, REMOVED)))
    there = {name for row in rows for name in order if row.get(name) not in {None, ""}}
    names = [name for name in names_of(rows, order) if name in there or name not in order]
    listed = [{name: row.get(name) for name in names} for row in rows]
    return RunResults(
        rows=listed,
        columns=tuple(name for name in order if name in there),
        absent=[
            AbsentRow(_place(job.plain_spec, _data_of(job, kinds), models, columns), _why(job))
            for job in absent
        ],
    )


def _alike_without_result(telling: Sequence[Returned], jobs: Iterable[JobRow]) -> list[JobRow]:
    """Return the jobs without a result that are like a job with one: repetitions, other values of a sweep."""
    known = {each.job.id for each in telling}
    alike = {_likeness(each.job) for each in telling}
    without = (job for job in jobs if job.state is not State.DONE or job.id not in known)
    return [job for job in without if _likeness(job) in alike]


def _likeness(job: JobRow) -> tuple[Any, ...]:
    """Return what jobs have in common that differ in values only."""
    spec = job.plain_spec
    if spec.kind == PROGRAM:
        return spec.kind, program_signature(_program_words(spec)), frozenset(spec.params)
    if spec.kind == FUNCTION:
        return spec.kind, spec.name.rpartition("#")[0], frozenset(spec.params)
    return (spec.kind,)


def _program_words(spec: Spec) -> list[str]:
    """Return the words that name a program, with `#` for the texts that a sweep gave it.

    They are its script. If that is not known, they are the words before the first option, and the first Python file
    after it, such as the script of torchrun.
    """
    words = [script_of(spec.argv)]
    if not words[0]:
        words = words_before_options(without_wrappers(spec.argv))
        values = [*spec.params.values()]
        files = [word for word in spec.argv if re.fullmatch(r"[^-].*\.py", word)]
        words += [file for file in files if file not in values][:1]
    swept = [value for value in swept_values(spec.settings).values() if isinstance(value, str)]
    for value in sorted(filter(None, swept), key=len, reverse=True):
        words = [re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "#", word) for word in words]
    return words


def _why(job: JobRow) -> str:
    return "without a result" if job.state is State.DONE else state_word(job.state)


def _data_of(job: JobRow, kinds: Mapping[str, Kind]) -> str:
    """Return the data of a job as a table has it."""
    return test_name(kinds.get(job.kind), job.plain_spec)


def _telling(
    specs: Sequence[Spec], among: Sequence[Spec], kinds: Mapping[str, Kind], parts: Sequence[str]
) -> list[str]:
    """Return the settings that are columns: those in which jobs differ, those of a sweep, and the seed."""
    telling = {name for those in swept([*specs, *among], kinds).values() for name in those}
    telling |= {name for spec in specs for name in swept_values(spec.settings)} | {SEED}
    names = dict.fromkeys(name for spec in specs for name in settings_of(spec) if name in telling)
    return [name for name in names if name not in parts]


# what a row is of, whatever a program calls a number
_PLACE = frozenset({JOB, MODEL, DATA, POOLED, REMOVED})


def _row(spec: Spec, told: Returned, models: Models, columns: Mapping[str, str]) -> Row:
    row = _place(spec, told.numbers.data, models, columns)
    metrics = {name: metric.record() for name, metric in told.numbers.metrics.items()}
    cells = {**metrics, **told.texts}
    return row | {f"{name}_" if name in _PLACE else name: cell for name, cell in cells.items()}


def _place(spec: Spec, data: str, models: Models, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return the columns that say what the row of a job is of."""
    settings = settings_of(spec)
    row: dict[str, Any] = {JOB: spec.name, DATA: data or None}
    if spec.model:
        parts = models.columns(spec.model)
        row |= {MODEL: spec.model, **{name: parts.get(name) for name in models.parts}}
    if SEED in settings and SEED not in columns:
        row[SEED] = scalar(settings[SEED])
    return row | {column: scalar(settings.get(name)) for name, column in columns.items()}


# words in the names of metrics that measure errors, distances or costs
_LOW = frozenset(
    (  # noqa: SIM905  # a list of fifty words
        "brier bytes cer cost crossentropy deviation disparity distance drift ece eer entropy err error "  # prose: ok, words
        "errors fid flops fnr fpr gap hter kl latency loss losses lpips mae mape maxerror mb memory "
        "minutes mse nll params peak perplexity ppl price ratio_of_errors regret rmse sd seconds std time "
        "wer violation"
    ).split()
)
_WORD = re.compile(r"[^\W_]+")


def lower_is_better(metric: str, kinds: Iterable[Kind]) -> bool:
    """Tell whether a low value of a metric is a good one.

    Args:
        metric: its name.
        kinds: of the jobs; those that rank metrics know theirs.
    """
    for kind in kinds:
        if isinstance(kind, RanksMetrics) and metric in kind.lower_is_better:
            return True
    return any(word in _LOW for word in _WORD.findall(metric.casefold()))
