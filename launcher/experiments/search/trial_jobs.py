"""The jobs of the trials of a search: how each is queued, and its numbers."""

from collections.abc import Callable, Sequence

from launcher.experiments.functions.programs import PREFIX, SubmitRequest, commit_jobs
from launcher.experiments.search.definition import SearchDefinition
from launcher.experiments.search.trials import JobResult, is_pruned, read_result, steps_for_study
from launcher.experiments.taskfile.domains import Value, text_of, values_in
from launcher.experiments.taskfile.programs import fill_template
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import Context
from launcher.queue.jobs.job import PROGRAM, Spec
from launcher.queue.jobs.signatures import program_cost
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.queue.store.searches import NewTrial, SearchRow, SearchState, TrialRow
from launcher.queue.workers.progress.attempt_progress import read_last_metrics, read_reported_steps


class SearchChanged(Exception):
    """The search was paused, ended or changed, so that nothing is queued."""


class TrialJobs:
    """The jobs of one search."""

    def __init__(
        self, home: Home, store: Store, row: SearchRow, definition: SearchDefinition
    ) -> None:
        """Begin without having read any result."""
        self._home, self._store, self._row = home, store, row
        self._definition = definition
        self._results: dict[tuple[int, int], JobResult] = {}  # by job and number of attempts
        self.printed: tuple[str, ...] = ()  # names of the numbers of the first done job
        self.empty: frozenset[str] = frozenset()  # names that a job reported as null
        self.context: Context = store.searches.context(row.id)

    @property
    def max_failures(self) -> int | None:
        """Failed trials after which the search ends."""
        return self.template().terms.max_failures

    def template(self) -> Spec:
        """Return a job with any values."""
        assert self._definition.spec is not None
        return self._definition.spec

    def queue(self, new: NewTrial) -> bool:
        """Queue a job of a trial. Return False, and queue none, if the search is not running any more."""
        number = self._row.id

        def record(job: int) -> None:
            row = self._store.searches.read(number)
            if row is None or row.state is not SearchState.RUNNING or row.body != self._row.body:
                raise SearchChanged
            self._store.searches.add_trials(number, {job: new})

        try:
            if self._definition.plan is None:
                self._queue_program(new, record)
            else:
                # the planner, which a search of `launcher add` does not need
                from launcher.experiments.search.trial_plans import queue_planned

                values = all_values(self._definition, new)
                queue_planned(self._store, self._definition, values, self.context, record)
        except SearchChanged:
            return False
        wake(self._home)
        return True

    def _queue_program(self, new: NewTrial, record: Callable[[int], None]) -> None:
        definition, store = self._definition, self._store
        spec = program_of_trial(definition, new)
        run = store.read.find_run(spec.root, spec.run)
        while spec.name and store.read.existing_names(run, [spec.name]):
            spec = spec._replace(name=f"{spec.name}'")
        request = SubmitRequest(
            spec,
            self.context,
            after=lambda store: sorted(store.read.existing_jobs(definition.after)),
            after_any=lambda store: sorted(store.read.existing_jobs(definition.after_any)),
            tags=definition.tags,
        )
        commit_jobs(store, request, [spec], lambda jobs: record(jobs[0]))

    def results(self, rows: Sequence[TrialRow]) -> dict[int, JobResult]:
        """Return what the done jobs among some reported, by job."""
        done = [row for row in rows if row.state is State.DONE]
        new = [row for row in done if (row.job, row.attempts) not in self._results]
        stored = self._store.read.results(row.job for row in new)
        for row in new:
            reported = stored.get(row.job)
            if reported is None and (is_pruned(row) or self.template().kind == PROGRAM):
                attempt = self._home.attempt(row.job, row.attempts)
                reported = read_last_metrics(attempt, may_be_cut=is_pruned(row))
                if reported and is_pruned(row):  # nothing else keeps the numbers of a pruned trial
                    self._store.searches.add_result(row.job, row.ended or 0.0, reported)
            self.empty |= {name for name, value in (reported or {}).items() if value is None}
            result = read_result(self._definition.objectives, reported or {})
            self._results[row.job, row.attempts] = result
            self.printed = self.printed or result.printed
        return {row.job: self._results[row.job, row.attempts] for row in done}

    def steps(self, row: TrialRow) -> list[tuple[int, float]]:
        """Return the steps of a job's newest attempt with the first metric."""
        if not row.attempts:
            return []
        objective = self._definition.objectives[0]
        reported = read_reported_steps(self._home.attempt(row.job, row.attempts))
        values = {step.step: step.metrics.get(objective.metric) for step in reported}
        return steps_for_study(values, lower=objective.lower)


def all_values(definition: SearchDefinition, new: NewTrial) -> dict[str, Value]:
    """Return the values of a job, with that of the repeated parameter."""
    repeat = definition.repeat
    values = values_in(definition.space, new.chosen)
    return values if repeat is None else {**values, repeat.name: repeat.values[new.repeat]}


def program_of_trial(definition: SearchDefinition, new: NewTrial) -> Spec:
    """Return the job of a trial that runs a program."""
    spec = definition.spec
    assert spec is not None
    texts = {name: text_of(value) for name, value in all_values(definition, new).items()}
    filled = fill_template(spec.settings, texts, definition.path_labels(texts))
    changed = {name: value for name, value in filled.settings.items() if name != "argv"}
    settings = {**spec.settings, **changed, **filled.stored}
    argv = filled.settings["argv"]
    assert isinstance(argv, list)
    words = tuple(map(str, argv))
    # a metric counts wherever it is printed, also a time
    names = dict.fromkeys((*spec.terms.numbers, *(each.metric for each in definition.objectives)))
    return spec._replace(
        terms=spec.terms.with_files(filled.terms)._replace(numbers=tuple(names)),
        name="" if filled.name is None else f"{PREFIX}{filled.name}",
        argv=words,
        settings=settings,
        signature=program_cost(settings, words),
    )
