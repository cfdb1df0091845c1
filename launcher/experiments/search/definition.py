"""The definition of a search: metrics, values, number of trials, and the job of each trial."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from launcher.experiments.results.metric_direction import (
    Direction,
    direction_of,
    split_direction,
    unknown_direction,
)
from launcher.experiments.search.words import (
    CMAES,
    GRID,
    MEDIAN,
    NONE,
    PRUNERS,
    SAMPLERS,
    TPE,
    SearchWords,
)
from launcher.experiments.taskfile.domains import (
    Choice,
    Range,
    Space,
    Value,
    parse_domain,
    read_domain,
    size_of,
    text_of,
)
from launcher.queue.jobs.context import JOB_FOLDER, OUTPUTS
from launcher.queue.jobs.job import PROGRAM, Spec
from launcher.queue.jobs.params import TEMPLATE
from launcher.queue.jobs.stored_specs import SpecWriter, read_spec
from launcher.system.errors import UsageError, nearest
from launcher.system.files import Json
from launcher.system.installation import install_command
from launcher.system.stored_fields import Unreadable, parse_record

MOST_TRIALS = 10_000
_NAMES = "names in --sweep"
_PROGRAM = "program"
OLDEST_OPTUNA = 5  # major version; as of the extra in setup.cfg


class Objective(NamedTuple):
    """A metric and its better direction."""

    metric: str
    lower: bool

    def __str__(self) -> str:
        return f"{self.metric}:{self.direction}"

    @property
    def direction(self) -> Direction:
        """The better values."""
        return Direction.MIN if self.lower else Direction.MAX


class Repeat(NamedTuple):
    """A parameter with several values for each trial, such as seed."""

    name: str
    values: tuple[Value, ...]


class PlannedEntry(NamedTuple):
    """A search of a task file: each trial is a plan of the file with one value per name."""

    file: str  # absolute path
    text: str
    entry: int  # number among the entries with a search
    options: Mapping[str, Json]  # options of the command that queued the search


class SearchDefinition(NamedTuple):
    """Everything that the process of a search needs, besides the trials."""

    objectives: tuple[Objective, ...]
    space: Space
    trials: int
    parallel: int | None = None  # jobs at once; None: as many as fit
    sampler: str = TPE
    pruner: str = MEDIAN
    repeat: Repeat | None = None
    seed: int = 0
    spec: Spec | None = None  # specification of a program, with any values
    tags: tuple[str, ...] = ()
    after: tuple[int, ...] = ()  # jobs that must be done before each trial
    after_any: tuple[int, ...] = ()  # jobs that must have ended before each trial
    plan: PlannedEntry | None = None
    continued_at: int = 0  # trials that there were when the search was queued or continued last

    @property
    def argv(self) -> tuple[str, ...]:
        """The program of a trial, with any values."""
        return () if self.spec is None else self.spec.argv

    @property
    def prunes(self) -> bool:
        """Whether trials are ended early."""
        return self.pruner != NONE

    @property
    def repeats(self) -> Sequence[Value | None]:
        """The values of the repeated parameter, one None if there is none."""
        return (None,) if self.repeat is None else self.repeat.values

    @property
    def job_count(self) -> int:
        """How many jobs the trials have."""
        return self.trials * len(self.repeats)

    def path_labels(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Return name → short name of its value in the names of jobs, for the values of a trial that are paths."""
        lists = {name: each for name, each in self.space.items() if isinstance(each, Choice)}
        if self.repeat is not None:
            lists[self.repeat.name] = Choice(self.repeat.values)
        labels = {name: lists[name].labels() for name, text in texts.items() if "/" in text}
        return {name: each[texts[name]] for name, each in labels.items() if texts[name] in each}

    def to_json(self) -> dict[str, Json]:
        """Return the definition as it is stored."""
        spec = None if self.spec is None else json.loads(SpecWriter().text(self.spec))
        return {
            "schema": 1,
            "objectives": [
                {"metric": each.metric, "lower": each.lower} for each in self.objectives
            ],
            "space": {name: domain.to_json() for name, domain in self.space.items()},
            "trials": self.trials,
            "parallel": self.parallel,
            "sampler": self.sampler,
            "pruner": self.pruner,
            "repeat": self.repeat and {"name": self.repeat.name, "values": [*self.repeat.values]},
            "seed": self.seed,
            "spec": spec,
            "tags": [*self.tags],
            "after": [*self.after],
            "after_any": [*self.after_any],
            "plan": self.plan and self.plan._asdict(),
            "continued_at": self.continued_at,
        }


def read_definition(body: str) -> SearchDefinition:
    """Return the definition that `to_json` wrote.

    Raises:
        Unreadable: a newer launcher wrote it.
    """
    record = parse_record(body, "the record of a search")
    try:
        repeat, plan, spec = (record[name] for name in ("repeat", "plan", "spec"))
        return SearchDefinition(
            objectives=tuple(Objective(**each) for each in record["objectives"]),
            space={name: read_domain(each) for name, each in record["space"].items()},
            trials=record["trials"],
            parallel=record["parallel"],
            sampler=record["sampler"],
            pruner=record["pruner"],
            repeat=None if repeat is None else Repeat(repeat["name"], tuple(repeat["values"])),
            seed=record["seed"],
            spec=None if spec is None else read_spec(spec),
            tags=tuple(record["tags"]),
            after=tuple(record["after"]),
            after_any=tuple(record["after_any"]),
            plan=None if plan is None else PlannedEntry(**plan),
            continued_at=record.get("continued_at", 0),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"the record of a search lacks {error}") from error


def define(
    words: SearchWords, values: Mapping[str, str | Range | Choice], flags: Sequence[str] = ()
) -> SearchDefinition:
    """Return the definition of a search without its job.

    Args:
        words: The options.
        values: Name → values as typed, or read already.
        flags: Names that are true or false.

    Raises:
        UsageError: the options contradict each other, or an extra is missing.
    """
    objectives = parse_objectives(words.metrics, words.spelling)
    if words.sampler not in SAMPLERS:
        raise UsageError(f"unknown sampler {words.sampler!r}. Write one of {', '.join(SAMPLERS)}.")
    if words.pruner not in {None, *PRUNERS}:
        raise UsageError(f"unknown pruner {words.pruner!r}. Write one of {', '.join(PRUNERS)}.")
    if words.trials is None:
        raise UsageError("--search: the number of trials is missing. Add --trials 60.")
    if not 1 <= words.trials <= MOST_TRIALS:
        raise UsageError(f"--trials {words.trials}: expected a number from 1 to {MOST_TRIALS:,}.")
    space: dict[str, Range | Choice] = {
        name: parse_domain(name, each) if isinstance(each, str) else each
        for name, each in values.items()
    }
    space |= {name: Choice((True, False)) for name in flags}
    if not space:
        raise UsageError("--search chooses nothing. Add --sweep lr=1e-5..1e-1:log.")
    is_swept = words.repeat is not None and words.repeat.partition("=")[0] in space
    is_default = is_swept and "repeat" in words.defaults
    repeat = None if words.repeat is None or is_default else parse_repeat(words.repeat, space)
    pruner = words.pruner or (MEDIAN if len(objectives) == 1 else NONE)
    if fault := _pruner_fault(objectives, pruner):
        if "pruner" not in words.defaults:
            raise UsageError(fault)
        pruner = NONE
    sampler = words.sampler
    if fault := _sampler_fault(objectives, sampler, space):
        if "sampler" not in words.defaults:
            raise UsageError(fault)
        sampler = TPE
    return SearchDefinition(
        objectives=objectives,
        space=space,
        trials=words.trials,
        parallel=words.parallel,
        sampler=sampler,
        pruner=pruner,
        repeat=repeat,
        seed=words.seed,
    )


def sample_values(definition: SearchDefinition) -> Iterator[tuple[dict[str, Value], int]]:
    """Yield combinations that together have each listed value and both bounds of each range; and which repetition."""
    first = {name: domain.first for name, domain in definition.space.items()}
    yield first, 0
    for name, domain in definition.space.items():
        values = domain.values if isinstance(domain, Choice) else (domain.low, domain.last)
        yield from (({**first, name: value}, 0) for value in values[1:])
    yield from ((first, repeat) for repeat in range(1, len(definition.repeats)))


def check_outputs(definition: SearchDefinition, spelling: str) -> None:
    """Refuse files that several trials of a program would write.

    Args:
        definition: The search, with its job.
        spelling: How a message spells an output: `--output {}`.

    Raises:
        UsageError: there is one.
    """
    repeated = [] if definition.repeat is None else [definition.repeat.name]
    names = [*definition.space, *repeated]
    template = {} if definition.spec is None else definition.spec.settings.get(TEMPLATE) or {}
    written = template.get("settings", {})
    for text in map(str, written.get(OUTPUTS) or ()):
        path = f"{written.get('cwd') or ''}/{text}"
        if JOB_FOLDER not in path and not all(f"{{{name}}}" in path for name in names):
            braces = ", ".join(f"{{{name}}}" for name in names)
            raise UsageError(
                f"{spelling.format(text)}: several trials would write this file. Write {braces} into its name, "
                f"or {JOB_FOLDER}/{text}."
            )


def parse_objectives(text: str, spelling: str = "--search {}") -> tuple[Objective, ...]:
    """Return the metrics of `acc:max,loss:min`; the direction of one without is that of its name.

    Args:
        text: As typed.
        spelling: How a message spells it.

    Raises:
        UsageError: one has another form, is listed twice, or has an unknown direction.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UsageError(
            f"{spelling.format(text)}: expected metrics such as acc, loss:min or acc:max,loss:min."
        )
    found: dict[str, Direction | None] = {}
    for word in words:
        metric, direction = split_direction(word, spelling)
        if metric in found:
            raise UsageError(
                f"{spelling.format(text)}: {metric!r} is listed twice. Remove one of them."
            )
        found[metric] = direction or direction_of(metric)
    unknown = [metric for metric, direction in found.items() if direction is None]
    if unknown:
        raise unknown_direction(spelling, words, unknown)
    return tuple(
        Objective(metric, direction.is_low)
        for metric, direction in found.items()
        if direction is not None
    )


def parse_repeat(text: str, space: Space) -> Repeat:
    """Return the parameter of `--repeat seed=1..3`.

    Raises:
        UsageError: it has another form, or is chosen by the search.
    """
    name, equals, rest = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--repeat {text}: expected a name and values. Write --repeat seed=1..3.")
    if name in space:
        raise UsageError(f"--repeat {name}: {name} is also in --sweep. Remove one of them.")
    domain = parse_domain(name, rest) if rest else Choice(())
    if not domain.size or domain.size > MOST_TRIALS:
        raise UsageError(f"--repeat {text}: expected a few values. Write --repeat {name}=1..3.")
    return Repeat(name, tuple(domain.all()))


def _pruner_fault(objectives: Sequence[Objective], pruner: str) -> str:
    """Return why a pruner does not fit, empty if it does."""
    if len(objectives) == 1 or pruner == NONE:
        return ""
    return (
        f"--pruner {pruner}: a search for several metrics cannot end trials early, because a trial may "
        "be good in one of them only. Remove --pruner, or name one metric."
    )


def _sampler_fault(objectives: Sequence[Objective], sampler: str, space: Space) -> str:
    """Return why a sampler does not fit, empty if it does."""
    if len(objectives) > 1 and sampler == CMAES:
        return "--sampler cmaes works on one metric. Use --sampler tpe, or name one metric."
    lists = [name for name, domain in space.items() if isinstance(domain, Choice)]
    if sampler == CMAES and lists:
        return (
            f"--sampler cmaes works on ranges of numbers, and {lists[0]} is a list of values. "
            "Use --sampler tpe, or a range."
        )
    endless = [name for name, domain in space.items() if domain.size is None]
    size = size_of(space)
    if sampler == GRID and (endless or size is None):
        return (
            f"--sampler grid tries all values, and {endless[0]} has no step. "
            f"Write {endless[0]}=LOW..HIGH..STEP, or a list."
        )
    if sampler == GRID and size is not None and size > MOST_TRIALS:
        return f"--sampler grid: {size:,} combinations; the limit is {MOST_TRIALS:,}. Write larger steps."
    return ""


def check_extra() -> None:
    """Refuse a search if Optuna or a package that it needs is not installed, or Optuna is too old.

    Optuna is not imported, because this takes longer than the rest of a command, unless another folder hides it.

    Raises:
        UsageError: it is.
    """
    spec, install = find_spec("optuna"), f"Install it: {install_command('search')}"
    if spec is None:
        raise UsageError(f"a search needs Optuna, which is not installed. {install}")
    found = version("optuna")
    if int(found.partition(".")[0]) < OLDEST_OPTUNA:
        raise UsageError(
            f"a search needs Optuna {OLDEST_OPTUNA} or newer, and {found} is installed. {install}"
        )
    package = distribution("optuna")
    for text in package.requires or ():
        name, _, condition = text.partition(";")
        if condition:  # only an extra or another Python needs the package
            continue
        try:
            version(re.split(r"[^\w.-]", name, maxsplit=1)[0])
        except PackageNotFoundError as error:
            raise UsageError(
                f"a search needs Optuna, which cannot be imported: {error.name} is not installed. {install}"
            ) from error
    if spec.origin != str(package.locate_file("optuna/__init__.py")):
        _check_import(install)


def check_import() -> None:
    """Refuse a search if Optuna is not installed, too old, or cannot be imported.

    Raises:
        UsageError: it is.
    """
    check_extra()
    _check_import(f"Install it: {install_command('search')}")


def _check_import(install: str) -> None:
    try:
        import_module("launcher.experiments.search.study")
    except Exception as error:  # a broken package may raise anything
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(
            f"a search needs Optuna, which cannot be imported: {why}. {install}"
        ) from error


def check_continuation(
    old: SearchDefinition, new: SearchDefinition, place: str, folder: str
) -> None:
    """Refuse a search that has the name of another one.

    A larger number of trials, other ranges, other resources and a program that was moved continue it.

    Args:
        old: The other one.
        new: The search.
        place: How a message names it.
        folder: In which the other one was added.

    Raises:
        UsageError: metric, sampler, program or a setting differ.
    """
    changes = _identity_changes(old, new)
    if _PROGRAM in changes and _was_moved(*changes[_PROGRAM], folder):
        del changes[_PROGRAM]
    for what, (before, now) in changes.items():
        another = "`name:`" if new.plan is not None else "--name or --run"
        has = "has other" if what == _NAMES else "has another"
        raise UsageError(
            f"{place} {has} {what}: {before or 'none'}, not {now or 'none'}. To start a second "
            f"search, write another {another}."
        )


def has_same_trials(old: SearchDefinition, new: SearchDefinition) -> bool:
    """Return whether a search tries what an earlier one tried; their code and resources may differ."""
    return not _identity_changes(old, new) and all(
        getattr(old, name) == getattr(new, name) for name in ("space", "trials", "pruner", "seed")
    )


def _identity_changes(old: SearchDefinition, new: SearchDefinition) -> dict[str, tuple[str, str]]:
    """Return what makes a search another one: its name, and the old and the new value."""
    parts = {
        "metric": (_metrics_text(old.objectives), _metrics_text(new.objectives)),
        "sampler": (old.sampler, new.sampler),
        "--repeat": (_repeat_text(old.repeat), _repeat_text(new.repeat)),
        _PROGRAM: (_program_text(old), _program_text(new)),
        _NAMES: (", ".join(sorted(old.space)), ", ".join(sorted(new.space))),
    }
    changes = {what: (before, now) for what, (before, now) in parts.items() if before != now}
    return changes or _changed_settings(old, new)


def _changed_settings(old: SearchDefinition, new: SearchDefinition) -> dict[str, tuple[str, str]]:
    """Return the settings of a lab's job that differ, without those that the search chooses."""
    if old.spec is None or new.spec is None or new.spec.kind == PROGRAM:
        return {}
    before, now = old.spec.settings, new.spec.settings
    # a template has the first value of each range, and a setting may have a second name
    chosen = {(str(old.space[name].first), str(new.space[name].first)) for name in new.space}
    return {
        f"setting {name}": pair
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
        and (pair := (str(before.get(name)), str(now.get(name)))) not in chosen
    }


def _was_moved(old_folder: str, now: str, folder: str) -> bool:
    """Return whether two command lines differ only in paths of files that are in another folder now."""
    old, new = old_folder.split(" "), now.split(" ")
    return len(old) == len(new) and all(
        was == word or (Path(was).name == Path(word).name and not Path(folder, was).exists())
        for was, word in zip(old, new, strict=True)
    )


def _metrics_text(objectives: Sequence[Objective]) -> str:
    return ",".join(map(str, objectives))


def _repeat_text(repeat: Repeat | None) -> str:
    return "" if repeat is None else f"{repeat.name}={','.join(map(text_of, repeat.values))}"


def _program_text(definition: SearchDefinition) -> str:
    if definition.spec is None or definition.spec.kind != PROGRAM:
        return ""
    template = definition.spec.settings.get("template") or {}
    return " ".join(map(str, template.get("settings", {}).get("argv", definition.spec.argv)))


def close_metric(
    metric: str, printed_names: Sequence[str], empty_names: Collection[str] = ()
) -> str:
    """Return what to print about a metric that no job reported, or one of `empty_names`, which it reported as null."""
    if metric in empty_names:
        return (
            f"the first trial reported null for the metric {metric!r}. Choose another metric, or data for which it "
            "is defined"
        )
    if not printed_names:
        return f"no trial reported the metric {metric!r}, nor any other number"
    close = nearest(metric, printed_names)
    hint = f". Did you mean {close!r}?" if close else ""
    return f"no trial reported the metric {metric!r}. The first one reported: {', '.join(printed_names[:9])}{hint}"
