"""Sweeps: `matrix: {lr: [0.1, 0.01], seed: [1, 2, 3]}` and the names of what comes of them.

A mapping is a product: every value with every other. A list ties settings together, and each of its
items is a product of its own:

    matrix: [{seed: 1, poison_seed: 7}, {seed: 2, poison_seed: 8}]              two combinations
    matrix: [{seed: 1, lr: [0.1, 0.01]}, {seed: 2, lr: [0.1, 0.01]}]            four

A value goes into a model's ID as `@lr=0.1`. One that has no short form there (a path, a list) is
given a label: `matrix: {weights: {imagenet: default, ours: weights/our.pt}}`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from launcher.draft import variant_value
from launcher.errors import Place, Problem, Severity
from launcher.ids import is_variant_value
from launcher.kind_interface import Kind
from launcher.system.files import Json
from launcher.taskfile.yaml_tree import Fields, Items, Node, Scalar, plain_value

MOST_COMBINATIONS = 10_000

_EXAMPLE = "[{seed: 1, lr: 0.1}, {seed: 2, lr: 0.2}]"


class Swept(NamedTuple):
    """One value of a sweep, as one combination has it."""

    key: Scalar  # the setting
    node: Node  # its value
    label: str | None  # what the file calls it; None: its value tells
    kind: str | None = None  # whose setting; None: of every kind that knows it

    @property
    def name(self) -> str:
        """The setting as `--set` names it: `lr`, or `train.lr`."""
        return self.key.text if self.kind is None else f"{self.kind}.{self.key.text}"


Combination = Mapping[str, Swept]  # by the name of the setting


class Sweep(NamedTuple):
    """What is taken one after another: the values of a setting, or of several that are tied."""

    values: tuple[tuple[Swept, ...], ...]  # at least one; all of the same settings

    @property
    def first(self) -> tuple[Swept, ...]:
        """The first values, which tell the settings and where they stand."""
        return self.values[0]


def read_matrix(
    node: Node, product: Callable[[Fields], list[Sweep]], problems: list[Problem]
) -> list[Sweep]:
    """Read a matrix; every combination is one value of each sweep that is returned.

    Args:
        node: a mapping of sweeps, or a list of such mappings.
        product: reads one mapping.
        problems: where complaints are added.
    """
    if isinstance(node, Fields):
        return product(node)
    if isinstance(node, Items):
        return _read_tied(node, product, problems)
    message = "matrix: expected sweeps such as {seed: [1, 2, 3]}"
    problems.append(_wrong(message, node.place, f"or tied settings: {_EXAMPLE}"))
    return []


def read_sweep(
    key: Scalar, node: Node, problems: list[Problem], kind: str | None = None
) -> Sweep | None:
    """Read the values of one setting; None where there are none to read, with the error reported."""
    values: list[Swept] = []
    sound = True
    if isinstance(node, Fields):
        for name, value in node.pairs:
            if not is_variant_value(name.text):
                message = "a label stands in model IDs: letters, digits and _.+- only"
                problems.append(Problem(code="matrix", message=message, place=name.place))
                sound = False
            values.append(Swept(key=key, node=value, label=name.text, kind=kind))
    elif isinstance(node, Scalar):
        values += [] if node.value is None else [Swept(key=key, node=node, label=None, kind=kind)]
    else:
        values += [Swept(key=key, node=node, label=None, kind=kind) for node in node.nodes]
    if not values:
        message = f"matrix: {key.text} has no values"
        hint = f"write {key.text}: [1, 2, 3]"
        problems.append(Problem(code="matrix", message=message, place=node.place, hint=hint))
    bundles = [(value,) for value in values]
    sound &= _distinct(bundles, problems)
    return Sweep(values=tuple(bundles)) if values and sound else None


def _read_tied(
    node: Items, product: Callable[[Fields], list[Sweep]], problems: list[Problem]
) -> list[Sweep]:
    """Read a list of combinations as one sweep; nothing where one of them is wrong."""
    bundles: list[tuple[Swept, ...]] = []
    sound = bool(node.nodes)
    if not node.nodes:
        message = "matrix: the list has no combinations"
        problems.append(
            Problem(code="matrix", message=message, place=node.place, hint=f"write {_EXAMPLE}")
        )
    for item in node.nodes:
        made = _read_item(item, product, problems)
        if made and bundles and (odd := _odd(made[0], bundles[0], item.place)) is not None:
            problems.append(odd)
            sound = False
        elif made:
            order = [value.name for value in (bundles or made)[0]]
            bundles += [_in_order(bundle, order) for bundle in made]
        sound &= bool(made)
    if not sound or not _distinct(bundles, problems):
        return []
    return [Sweep(values=tuple(bundles))]


def _read_item(
    item: Node, product: Callable[[Fields], list[Sweep]], problems: list[Problem]
) -> list[tuple[Swept, ...]]:
    """Return the combinations of one item of a list; none where it is wrong."""
    if not isinstance(item, Fields) or not item.pairs:
        message = "matrix: expected a combination such as {seed: 1, lr: 0.1}"
        hint = "a matrix is a mapping of sweeps, or a list of mappings"
        problems.append(_wrong(message, item.place, hint))
        return []
    before = sum(problem.severity is Severity.ERROR for problem in problems)
    sweeps = product(item)
    if sum(problem.severity is Severity.ERROR for problem in problems) > before:
        return []
    return [made for made in combinations(sweeps, problems) if made]


def _odd(made: Sequence[Swept], first: Sequence[Swept], place: Place) -> Problem | None:
    """Return the problem of a combination of other settings than the first one; None if it is not."""
    wanted, given = ({swept.name: swept for swept in bundle} for bundle in (first, made))
    more = [swept for name, swept in given.items() if name not in wanted]
    less = [name for name in wanted if name not in given]
    if not more and not less:
        return None
    differs = f"lacks {' and '.join(less)}" if less else "has more"
    if more:
        names = " and ".join(swept.name for swept in more)
        differs = f"{f'{differs}, and ' if less else ''}has {names}, which the first has not"
    return Problem(
        code="matrix",
        message=f"matrix: all combinations of a list give the same settings; this one {differs}",
        place=more[0].key.place if more and not less else place,
        hint=f"give {' and '.join(wanted)} in each",
        notes=(f"the first stands in line {first[0].key.place.line}",),
    )


def _in_order(bundle: Iterable[Swept], order: Sequence[str]) -> tuple[Swept, ...]:
    return tuple(sorted(bundle, key=lambda swept: order.index(swept.name)))


def _wrong(message: str, place: Place, hint: str) -> Problem:
    return Problem(code="wrong-type", message=message, place=place, hint=hint)


def _distinct(bundles: Sequence[tuple[Swept, ...]], problems: list[Problem]) -> bool:
    """Tell whether each value has a name of its own; blame the first of those that have not."""
    names: set[tuple[str, ...]] = set()
    seen: set[tuple[str, ...]] = set()
    for bundle in bundles:
        values = [plain_value(swept.node) for swept in bundle]
        name = tuple(label(swept, value) for swept, value in zip(bundle, values, strict=True))
        comparable = tuple(map(_comparable, values))
        if name not in names and comparable not in seen:
            names.add(name)
            seen.add(comparable)
            continue
        problems.append(_alike(bundle, name, twice=comparable in seen))
        return False
    return True


def _alike(bundle: Sequence[Swept], name: Sequence[str], *, twice: bool) -> Problem:
    """Return the problem of values, or of combinations, that are equal or go by one name."""
    key, place = bundle[0].key.text, bundle[0].node.place
    tied = len(bundle) > 1
    if twice:
        message = "matrix: this combination is there twice" if tied else ""
        message = message or f"matrix: {key} has this value twice"
        return Problem(code="matrix", message=message, place=place, hint="leave one of them out")
    names = ",".join(f"{swept.name}={text}" for swept, text in zip(bundle, name, strict=True))
    what, called = ("two combinations", names) if tied else (f"two values of {key}", name[0])
    return Problem(
        code="matrix",
        message=f"matrix: {what} would both be called {called!r} in an ID",
        place=place,
        hint=f"name them: {key}: {{first: …, second: …}}",
    )


def _comparable(value: Json) -> str:
    """Return a text that is equal for equal values: 1 and 1.0 are, to anybody, and 1 and true not."""
    match value:
        case bool() | None | str():
            return repr(value)
        case int() | float():
            return repr(float(value)) if abs(value) < 1 << 53 else repr(value)
        case list():
            return f"[{','.join(map(_comparable, value))}]"
    return repr({key: _comparable(inner) for key, inner in value.items()})


def is_neutral(name: str, kinds: Iterable[Kind]) -> bool:
    """Tell whether a setting can change no result: every kind that has it says so."""
    having = [kind.settings for kind in kinds if name in kind.settings.model_fields]
    return bool(having) and all(name in settings.neutral for settings in having)


def blame_neutral(key: Scalar, problems: list[Problem]) -> None:
    """Add the problem of a sweep that would make the same model again and again; once for a list."""
    message = f"matrix: {key.text} cannot change a result, so there is nothing to compare"
    hint = f"write one {key.text} outside of the matrix"
    if any(problem.message == message for problem in problems):
        return
    problems.append(Problem(code="matrix", message=message, place=key.place, hint=hint))


def without(sweeps: Iterable[Sweep], forced: Callable[[Swept], bool]) -> Iterator[Sweep]:
    """Give the sweeps without the settings that the command line sets, each combination once."""
    for sweep in sweeps:
        kept = [tuple(swept for swept in bundle if not forced(swept)) for bundle in sweep.values]
        once = {
            tuple(_comparable(plain_value(swept.node)) for swept in bundle): bundle
            for bundle in kept
        }
        if kept[0]:
            yield sweep._replace(values=tuple(once.values()))


def combinations(sweeps: Sequence[Sweep], problems: list[Problem]) -> list[tuple[Swept, ...]]:
    """Return every combination, the first setting changing slowest; one empty one without sweeps."""
    count = 1
    for sweep in sweeps:
        count *= len(sweep.values)
    if count > MOST_COMBINATIONS:
        message = f"matrix: {count:,} combinations, and {MOST_COMBINATIONS:,} at most are made"
        place = sweeps[0].first[0].key.place
        hint = "sweep fewer settings at once, or divide the file"
        problems.append(Problem(code="matrix", message=message, place=place, hint=hint))
        return [()]
    chosen = itertools.product(*(sweep.values for sweep in sweeps))
    return [tuple(itertools.chain.from_iterable(bundles)) for bundles in chosen]


def by_setting(chosen: Iterable[Swept]) -> dict[str, Swept]:
    """Return swept values by the names of their settings."""
    return {swept.key.text: swept for swept in chosen}


def label(swept: Swept, value: Json) -> str:
    """Return what stands for a swept value in an ID: its label, or the value as it was understood."""
    if swept.label is not None:
        return swept.label
    return variant_value(_text(value))


def _text(value: Json) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return "-".join(_texts(value))
        case None:
            return "none"
    return str(value)


def _texts(values: Iterable[Json]) -> Iterator[str]:
    return map(_text, values)
