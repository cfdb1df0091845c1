"""Steps that are asked for twice: they run once, where they are the same."""

from collections.abc import Iterable, Iterator

from launcher.errors import Problem, Severity
from launcher.ids import canonical, parse_data
from launcher.planning.expanding.step import SCORING, Step
from launcher.taskfile.settings import spelt


def without_doubles(steps: Iterable[Step], problems: list[Problem]) -> Iterator[Step]:
    """Leave out jobs that are asked for twice; two that differ under one name are an error."""
    by_name: dict[str, Step] = {}
    tests = _SameTests()
    for step in steps:
        other = by_name.setdefault(step.name, step)
        if other is step:
            same = tests.first(step)
            if same is step:
                yield step
                continue
            message = f"{step.name} is the same test as {same.name}: it runs once, under that name"
            problems.append(_double("same-data", message, same, step, Severity.WARNING))
        elif other.follows.texts != step.follows.texts:
            message = f"{step.name} is asked for twice, with different words after it"
            problems.append(_double("duplicate-job", message, other, step, Severity.ERROR))
        elif dict(other.settings.values) == dict(step.settings.values):
            if other.place == step.place:
                continue  # one entry, in two combinations of the matrix that do not concern it
            message = f"{step.name} is asked for twice: it runs once"
            problems.append(_double("listed-twice", message, other, step, Severity.WARNING))
        else:
            message = f"{step.name} is asked for twice, with different settings"
            problems.append(_double("duplicate-job", message, other, step, Severity.ERROR))


class _SameTests:
    """Finds tests of one model on the same images, in whatever words these are named."""

    def __init__(self) -> None:
        self._images: dict[tuple[str, str], str] = {}  # (kind, data ID) → its images
        self._first: dict[tuple[str, str | None, str, str], Step] = {}

    def first(self, step: Step) -> Step:
        """Return the first test that is the same as this one; the step itself if there is none."""
        if step.kind.role not in SCORING or step.images is None:
            return step
        named = (step.kind.name, step.images)
        if named not in self._images:
            meant = canonical(step.kind.elementary(parse_data(step.images)))
            self._images[named] = str(meant)
        key = (step.kind.name, step.model, self._images[named], step.settings.text)
        return self._first.setdefault(key, step)


def _double(code: str, message: str, first: Step, second: Step, severity: Severity) -> Problem:
    before, after = first.settings.values, second.settings.values
    differences = [
        f"{name}: {spelt(before.get(name))} and {spelt(after[name])}"
        for name in after
        if before.get(name) != after[name]
    ]
    return Problem(
        code=code,
        message=message,
        severity=severity,
        place=second.place,
        notes=(f"first in line {first.place.line}", *differences),
    )
