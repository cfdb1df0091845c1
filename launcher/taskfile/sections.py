"""A task file's sections, read entry by entry, each by the role of its kind.

Words of the language (`model`, `data`, `poison`, `method`, `matrix`, `name`, `after`, `resources`) stand beside
the kind's own settings; a setting that has such a name is given under `settings:`. Beside the settings of a
program stand the options of a job, too, as on the command line of `launcher add`.

An entry is done in several ways: variants of a model or a folder by sweeps, a test under each of its conditions.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypedDict

from launcher.errors import Place, Problem, Problems
from launcher.ids import DataId, ModelId, is_word
from launcher.job_options.registry import JobRequest, job_options
from launcher.kind_interface import Kind, Role
from launcher.kinds import variable_fault
from launcher.taskfile.entries import (
    FREE,
    At,
    Entry,
    FolderEntry,
    FolderVariant,
    Follows,
    MethodEntry,
    PlainEntry,
    PlainVariant,
    ScoringEntry,
    TrainEntry,
    Variant,
    companion,
)
from launcher.taskfile.language import LONGEST_NAME, MISLABELLED, RESOURCE_HINTS, words_of
from launcher.taskfile.legacy_names import LABELS_RATE, percent_of_rate
from launcher.taskfile.matrix import MOST_COMBINATIONS, combinations_of_entry, label
from launcher.taskfile.nodes import (
    TRUTHS,
    Fields,
    Given,
    Items,
    Node,
    Said,
    Scalar,
    Source,
    is_null,
    listed,
    not_null,
    plain_value,
)
from launcher.taskfile.programs import are_quoted, sweeps_of_program, swept_programs
from launcher.taskfile.scope import EVERY, Scope, request_for
from launcher.taskfile.settings import Known, Settled, blame_twice, known, settle, unknown_key
from launcher.taskfile.values import all_read, read_data, read_label_changes, read_model

_EXAMPLES: Mapping[Role, str] = {
    Role.TRAIN: "{model: null, data: gan2:pre}",
    Role.METHOD: "{model: gan2:pre%50, method: retrain}",
    Role.TEST: "{model: gan2:pre, data: real:pre}",
    Role.BENCHMARK: '{test: ["gan2:pre&real:pre"]}',
    Role.FOLDER: "{source: FOLDER}",
}
# Where words stand that people look for in an entry.
_HINTS: Mapping[str, str] = {
    **RESOURCE_HINTS,
    "device_override": "write resources: {device: …}",
    "poison": "write it in the entry of a training; the ID of the model then names it",
}
# What `launcher add` can say of a program, and an entry of a task file cannot.
_PROGRAM_HINTS: Mapping[str, str] = {
    "hold": "entries cannot be held; use launcher hold JOB, or launcher add --hold -- PROGRAM",
}
_NAME_WANTED = (
    f"expected a name of at most {LONGEST_NAME} letters, digits and ._+- that begins with a letter "
    "or digit"
)
_SAME = {"depends": "after", "needs": "after", "requires": "after", "workdir": "cwd",
         "working_directory": "cwd", "environment": "env", "begin": "not_before"}  # fmt: skip

Pairs = Sequence[tuple[Scalar, Node]]


def read_section(kind: Kind, node: Node, scope: Scope) -> Iterator[Entry | None]:
    """Give each entry of a kind's section; None for one that cannot be read, its errors reported."""
    if is_null(node):
        return
    nodes = listed(node)
    if kind.role is Role.LABELS and not isinstance(node, Items):
        _blame_labels(kind, node, scope)
    elif kind.role is Role.METHOD and nodes and all(isinstance(node, Scalar) for node in nodes):
        # `unlearn: [relabel, retrain]` is these methods on every poisoned model
        every = Scalar(node.source, node.line, node.column, 1, MISLABELLED, plain=True)
        words = {"model": every, "method": node}
        yield _method(_RawEntry(scope, _common(kind, node.place, scope), words, {}, ({},)))
    elif isinstance(node, Items):
        yield from (_entry(kind, node, scope) for node in nodes)
    else:
        message = f"{kind.name}: expected a list"
        scope.problems.blame(node, "wrong-type", message, "begin each entry with '- '")
        yield None


def read_auto_test(
    key: Scalar, node: Node, makers: Iterable[Kind], scope: Scope
) -> Iterator[ScoringEntry]:
    """Give an entry for each kind of models of the file: every one is tested on a list of data IDs.

    Args:
        key: the word `autotest`.
        node: its value; nothing written gives nothing.
        makers: the kinds that make models in this file.
        scope: what holds for the file.
    """
    if is_null(node):
        return
    testers: dict[str, tuple[Kind, tuple[Settled, ...]]] = {}
    for maker in makers:
        tester = companion(scope.kinds, maker, Role.TEST)
        if tester is None:
            message = f"there must be exactly one job type that tests the models of {maker.name}"
            scope.problems.blame(key, "no-test-kind", message)
        elif settled := _conditions(tester, scope.given(tester, {}), key.place, scope):
            testers[maker.name] = tester, settled
    every = (kind for kind in scope.kinds.values() if kind.role is Role.TEST)
    readers = {kind.name: kind for kind in [kind for kind, _ in testers.values()] or every}
    data = _data_ids(node, readers.values(), scope)
    for name, (tester, settled) in testers.items():
        common = _common(tester, key.place, scope)
        yield ScoringEntry(**common, models=(), maker=name, data=data, settings=settled, others={})


class _Common(TypedDict):
    """What entries of every kind say; see `Asked`."""

    kind: Kind
    place: Place
    combination: int
    request: JobRequest
    follows: Follows


def _common(
    kind: Kind,
    place: Place,
    scope: Scope,
    resources: Node | None = None,
    follows: Follows = FREE,
) -> _Common:
    return _Common(
        kind=kind,
        place=place,
        combination=scope.combination,
        request=request_for(kind, resources, place, scope),
        follows=follows,
    )


class _RawEntry(NamedTuple):
    """An entry whose keys were sorted, its values not yet read."""

    scope: Scope
    common: _Common
    words: Mapping[str, Node]
    own: Given
    combinations: tuple[Given, ...]  # of its own matrix

    @property
    def kind(self) -> Kind:
        """Of its section."""
        return self.common["kind"]

    @property
    def place(self) -> Place:
        """Where it begins."""
        return self.common["place"]

    @property
    def given(self) -> Given:
        """What is said of each setting, but for sweeps."""
        return self.scope.given(self.kind, self.own)

    def word(self, name: str) -> Node | None:
        """Return what stands behind a word; None where that is nothing."""
        return not_null(self.words.get(name))

    def needed(self, name: str) -> Node | None:
        """Return what stands behind a word that an entry must have; blame its absence."""
        node = self.word(name)
        if node is None:
            wanted = words_of(self.kind)[name].needed
            message = f"{self.kind.name} needs '{name}': {wanted}"
            self.scope.problems.blame(self.words.get(name, self), "missing-word", message)
        return node

    def model(self, node: Node | None) -> At[ModelId] | None:
        """Return the model that a node names, if it does."""
        return None if node is None else read_model(node, self.kind, self.scope)


def _entry(kind: Kind, node: Node, scope: Scope) -> Entry | None:
    if not isinstance(node, Fields):
        example = _EXAMPLES.get(kind.role, "{setting: value}")
        scope.problems.blame(node, "wrong-type", f"expected an entry such as {example}")
        return None
    if kind.role is Role.LABELS:
        _blame_labels(kind, node, scope)
        return None
    raw = _raw_entry(kind, node, scope)
    match kind.role:
        case Role.TRAIN:
            return _train(raw)
        case Role.METHOD:
            return _method(raw)
        case Role.TEST:
            model = raw.needed("model")
            tests = _scoring(raw, "data", () if model is None else (model,))
            return None if model is None else tests
        case Role.BENCHMARK:
            return _scoring(raw, "test", listed(raw.word("model")))
        case Role.FOLDER:
            return _folder(raw)
        case Role.DATA | Role.PLAIN:
            return _plain(raw)
        case Role.SHARED:
            return None  # no task file speaks of it


def _blame_labels(kind: Kind, node: Node, scope: Scope) -> None:
    message = f"{kind.name} jobs are created automatically, one before each poisoned training"
    hint = f"write {kind.name}: 50 in the training's entry, or below defaults"
    scope.problems.blame(node, "poison-section", message, hint)


def _raw_entry(kind: Kind, node: Fields, scope: Scope) -> _RawEntry:
    """Sort an entry's keys into words of the language and settings; report what is neither."""
    problems = scope.problems
    allowed, available = words_of(kind), {} if kind.entry else job_options()
    labeller = companion(scope.kinds, kind, Role.LABELS) if kind.role is Role.TRAIN else None
    of = known([kind] if labeller is None else [kind, labeller])
    words: dict[str, Node] = {}
    inside: Pairs = ()
    beside, options = list[tuple[Scalar, Node]](), list[tuple[Scalar, Node]]()
    for key, value in node.pairs:
        if key.text == "settings" and isinstance(value, Fields):
            inside = value.pairs
        elif key.text in allowed:
            words[key.text] = value
        elif key.text == LABELS_RATE:
            if kind.role is Role.TRAIN:
                words.setdefault("poison", percent_of_rate(key, value, problems))
        elif key.text in available and key.text not in of.names:
            options.append((key, value))
        else:
            beside.append((key, value))
    if not is_null(words.get("settings")):
        message = "expected settings such as {lr: 0.001}"
        problems.blame(words["settings"], "wrong-type", message)
    own = of.among(inside, problems, _refusing(of, scope, is_inside=True))
    for name, said in of.among(beside, problems, _refusing(of, scope, is_inside=False)).items():
        if name in own:
            blame_twice(said.key, name, "here and below settings", problems)
        else:
            own[name] = said
    asked = _asked(node, not_null(words.get("resources")), options, problems)
    follows = Follows(*(_followed(words.get(word), word, problems) for word in Follows._fields))
    common = _common(kind, node.place, scope, asked, follows)
    matrix = (
        not_null(words.get("matrix")) if kind.entry else None
    )  # that of a program has free names
    combinations = combinations_of_entry(matrix, of, own, scope)
    return _RawEntry(scope, common, words, own, combinations)


def _refusing(of: Known, scope: Scope, *, is_inside: bool) -> Callable[[Scalar], Problem]:
    """Return what tells of a key, below `settings` or beside it, that is neither a word nor a setting."""

    def refuse(key: Scalar) -> Problem:
        kind, names = of.kinds[0], set(of.names)
        if not is_inside:
            names |= {*words_of(kind), *(() if kind.entry else job_options())} - {"settings"}
        others = scope.kinds.values()
        elsewhere = [other.name for other in others if key.text in other.settings.model_fields]
        what, hint = f"a setting of {kind.name}", _hint(kind, key.text)
        return unknown_key(key, what, names, elsewhere, hint=hint, where=of.where, old=of.old)

    return refuse


def _hint(kind: Kind, name: str) -> str:
    """Return what to write instead of a word that an entry does not know; '' if that is unknown."""
    plain = name.replace("-", "_")
    meant = _SAME.get(plain, plain)
    known_here = meant in Follows._fields and meant in words_of(kind)
    if not kind.entry:
        known_here |= meant in job_options() or meant in kind.settings.model_fields
    if meant != name and known_here:
        return f"did you mean '{meant}'?"
    return _HINTS.get(plain, "") if kind.entry else {**_HINTS, **_PROGRAM_HINTS}.get(meant, "")


def _asked(
    entry: Fields, resources: Node | None, options: Pairs, problems: Problems
) -> Node | None:
    """Return what an entry asks for: its `resources`, and the options beside them."""
    if not options:
        return resources
    if resources is None:
        return replace(entry, pairs=tuple(options))
    if not isinstance(resources, Fields):
        return resources
    below = {key.text for key, _ in resources.pairs}
    for key, _ in options:
        if key.text in below:
            blame_twice(key, key.text, "here and below resources", problems)
    more = tuple(pair for pair in options if pair[0].text not in below)
    return replace(resources, pairs=(*resources.pairs, *more))


def _followed(node: Node | None, word: str, problems: Problems) -> tuple[At[str], ...]:
    """Return the names of jobs in `after` or `after_any`; what they mean is for the plan to find out."""
    named: list[At[str]] = []
    for item in listed(not_null(node)):
        if isinstance(item, Scalar) and not is_null(item) and item.text.strip():
            named.append(At(item.text, item))
        else:
            message = f"{word}: expected the name of a job, or a list of names"
            hint = "write a name that the dry run lists"
            problems.blame(item, "wrong-type", message, hint)
    return tuple(named)


def _train(raw: _RawEntry) -> TrainEntry | None:
    kind, scope = raw.kind, raw.scope
    model = raw.word("model")  # null is a new model, and so is no word at all
    if isinstance(model, Scalar) and model.plain and model.text == "None":
        scope.problems.note(model, "old-name", "write null instead of None")
        model = None
    base = raw.model(model)
    data = raw.needed("data")
    read = None if data is None else read_data(data, (kind,), scope)
    labels = scope.forced_labels or raw.words.get("poison", scope.labels)
    label_changes = read_label_changes(labels, scope) if labels is not None else ()
    labeller = None
    if any(change.value is not None for change in label_changes or ()):
        labeller = companion(scope.kinds, kind, Role.LABELS)
        if labeller is None:
            message = f"there must be exactly one job type that poisons the labels of {kind.name}"
            scope.problems.blame(labels, "no-poison-kind", message)
            return None
    variants = _variants(raw, {}, labeller)
    if read is None or not variants or label_changes is None or (base is None) != (model is None):
        return None
    request = raw.common["request"]
    if labeller is not None:
        request = request_for(labeller, None, raw.place, scope)
    return TrainEntry(
        **raw.common,
        base=base,
        data=read,
        label_changes=label_changes,
        wide=len(label_changes) == 1 and labels is not raw.words.get("poison"),
        variants=variants,
        labels_kind=labeller,
        labels_request=request,
    )


def _method(raw: _RawEntry) -> MethodEntry | None:
    kind, problems, model = raw.kind, raw.scope.problems, raw.word("model")
    every = isinstance(model, Scalar) and model.text == MISLABELLED
    base = None if every else raw.model(raw.needed("model"))
    method = raw.needed("method")
    nodes = listed(method)
    if method is not None and not nodes:
        problems.blame(method, "wrong-type", "expected at least one unlearning method")
    methods = []
    for node in nodes:
        if not isinstance(node, Scalar) or not is_word(node.text):
            problems.blame(node, "wrong-type", "expected the name of an unlearning method")
            continue
        said = {"method": Said(node, node)} if "method" in kind.settings.model_fields else {}
        if variants := _variants(raw, said):
            methods.append((At(node.text, node), variants))
    if (base is None and not every) or not methods or len(methods) < len(nodes):
        return None
    return MethodEntry(**raw.common, base=base, methods=tuple(methods))


def _scoring(raw: _RawEntry, word: str, named: Sequence[Node]) -> ScoringEntry | None:
    """Return tests or benchmarks of the models that are named, on the data behind a word."""
    kind, scope = raw.kind, raw.scope
    models = all_read(raw.model(node) for node in named)
    node = raw.needed(word)
    if node is not None and not listed(node):
        scope.problems.blame(node, "wrong-type", "expected at least one data ID")
    data = _data_ids(node, (kind,), scope)
    settings = _conditions(kind, raw.given, raw.place, scope)
    if not settings or models is None:
        return None
    first = settings[0]
    others = {
        name: raw.model(first.given[name].node)
        for name in sorted(kind.settings.models if kind.role is Role.BENCHMARK else ())
        if first.values[name]
    }
    return ScoringEntry(
        **raw.common,
        models=models,
        data=data,
        settings=settings,
        others={name: model for name, model in others.items() if model is not None},
    )


def _folder(raw: _RawEntry) -> FolderEntry | None:
    sound, name = _given_name(raw)
    variants = all_read(_folder_variant(raw, variant) for variant in _variants(raw, {}))
    if not sound or not variants:
        return None
    return FolderEntry(**raw.common, name=name.text if name else raw.kind.name, variants=variants)


def _plain(raw: _RawEntry) -> PlainEntry | None:
    kind, problems = raw.kind, raw.scope.problems
    if not (kind.entry or are_quoted(raw.word("name"), raw.own, problems)):
        return None
    forced = {**raw.scope.forced.get(EVERY, {}), **raw.scope.forced.get(kind.name, {})}
    sweeps = [] if kind.entry else sweeps_of_program(raw.words, forced, problems)
    if sweeps is None:
        return None
    sound, name = _given_name(raw, swept=bool(sweeps))
    if not sound or not (kind.entry or check_variables(raw.given, problems)):
        return None
    settled = settle(kind, raw.given, raw.place, problems)
    variants: tuple[PlainVariant, ...] = ()
    if settled is not None and sweeps:
        variants = swept_programs(kind, name, settled, raw.own, sweeps, problems)
        if any(not _is_name((each.name or "t").partition("@")[0]) for each in variants):
            problems.blame(name, "name", _NAME_WANTED)
            return None
    elif settled is not None:
        variants = (PlainVariant(None if name is None else name.text, (), settled),)
    return PlainEntry(**raw.common, variants=variants) if variants else None


def _given_name(raw: _RawEntry, *, swept: bool = False) -> tuple[bool, Scalar | None]:
    """Return whether an entry's name can be one, and the name; None where there is none.

    Args:
        raw: the entry.
        swept: values are filled in between braces; only then it is seen what the names are.
    """
    node = raw.word("name")
    if node is None:
        return True, None
    if isinstance(node, Scalar) and (swept or _is_name(node.text)):
        return True, node
    raw.scope.problems.blame(node, "name", _NAME_WANTED)
    return False, None


def _is_name(text: str) -> bool:
    return is_word(text) and len(text) <= LONGEST_NAME


def check_variables(given: Given, problems: Problems) -> bool:
    """Tell whether a program's variables have names, and texts as values; blame all that have not.

    What YAML takes for a number or a truth may not be what a program reads: 010 would be 10, and yes true.
    """
    node = given["env"].node if "env" in given else None
    if not isinstance(node, Fields):
        return True
    sound = True
    for key, value in node.pairs:
        if fault := variable_fault(key.text):
            sound = False
            problems.blame(key, "wrong-value", f"env: {fault}")
        text = value.text if isinstance(value, Scalar) else ""
        truth = isinstance(value, Scalar) and value.plain and text.lower() in TRUTHS
        if isinstance(value, Scalar) and isinstance(value.value, str) and not truth:
            continue
        sound = False
        message = f"env: the value of {key.text} is not a string"
        example = text if text and not is_null(value) else ""
        hint = f'write {key.text}: "{text}"' if example else 'write "" for an empty value'
        problems.blame(value, "wrong-type", message, hint)
    return sound


def _data_ids(node: Node | None, readers: Iterable[Kind], scope: Scope) -> tuple[At[DataId], ...]:
    """Return one data ID or those of a list, without those that cannot be read."""
    read = [read_data(each, readers, scope) for each in listed(node)]
    return tuple(data for data in read if data is not None)


def _variants(raw: _RawEntry, more: Given, labeller: Kind | None = None) -> tuple[Variant, ...]:
    """Return each way in which an entry is done; none where a setting is wrong."""
    scope, variants = raw.scope, list[Variant]()
    for chosen in raw.combinations:
        own = {**raw.own, **chosen, **more}
        given = scope.given(raw.kind, own)
        settled = settle(raw.kind, given, raw.place, scope.problems)
        paired, values = scope.paired(raw.kind, given), dict(settled.values) if settled else {}
        labelled = None
        if labeller is not None:
            given = scope.given(labeller, own)
            followed = {} if settled is None else _as_training(labeller, given, settled)
            labelled = settle(labeller, {**followed, **given}, raw.place, scope.problems)
            paired |= scope.paired(labeller, given)
            values = {**(labelled.values if labelled else {}), **values}
        if settled is None or (labeller is not None and labelled is None):
            return ()
        name = tuple(
            (key, label(said, values[key]))
            for key, said in {**paired, **chosen}.items()
            if key in values
        )
        variants.append(Variant(name, frozenset(paired), settled, labelled))
    return tuple(variants)


def _as_training(labeller: Kind, given: Given, training: Settled) -> Given:
    """Return the settings of a poison that are not given and follow those of the training."""
    values = {name: plain_value(said.node) for name, said in given.items()}
    leaders = labeller.settings.followed(values).items()
    return {name: training.given[leader] for name, leader in leaders if leader in training.given}


def _folder_variant(raw: _RawEntry, variant: Variant) -> FolderVariant | None:
    """Return one way in which a folder is made; None where an ID is wrong."""
    settings = raw.kind.settings
    models: dict[str, At[ModelId]] = {}
    folders: dict[str, At[str]] = {}
    for name in (*settings.folders, *settings.models):
        value = variant.settings.values[name]
        if not value:
            continue
        node = _node_of(name, str(value), variant.settings, raw.place)
        if name in settings.folders:
            folders[name] = At(str(value), node)
        if name in settings.models:
            model = raw.model(node)
            if model is None:
                return None
            models[name] = model
    return FolderVariant(variant=variant, models=models, folders=folders)


def _node_of(name: str, value: str, settled: Settled, entry: Place) -> Scalar:
    """Return where a setting is given, or its default as if it stood at the entry."""
    node = settled.given[name].node if name in settled.given else None
    if isinstance(node, Scalar):
        return node
    source = Source(file=entry.file, lines=())
    return Scalar(source, entry.line - 1, entry.column - 1, 1, value, plain=True)


def _conditions(kind: Kind, given: Given, place: Place, scope: Scope) -> tuple[Settled, ...]:
    """Return the settings of a test under each of its conditions; none where a setting is wrong."""
    swept = {
        name: given[name]
        for name in kind.settings.conditions
        if name in given and isinstance(given[name].node, Items)
    }
    values = [[said._replace(node=node) for node in listed(said.node)] for said in swept.values()]
    count = math.prod(map(len, values))
    if count == 0 or count > MOST_COMBINATIONS:
        names = " and ".join(swept)
        message = f"{names}: expected 1 to {MOST_COMBINATIONS:,} conditions, got {count:,}"
        first = next(iter(swept.values())).node
        scope.problems.blame(first, "conditions", message, "write at least one value")
        return ()
    settled = all_read(
        settle(kind, {**given, **dict(zip(swept, chosen, strict=True))}, place, scope.problems)
        for chosen in itertools.product(*values)
    )
    return settled or ()
