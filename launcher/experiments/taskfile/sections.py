"""A task file's sections, read entry by entry, each by the role of its kind.

Words of the language (`model`, `data`, `poison`, `method`, `matrix`, `name`, `after`, `resources`) are keys next to
the kind's own settings. A setting with such a name is given under `settings:`. An entry of a program may also
contain the options of a job, as on the command line of `launcher add`.

An entry can have several variants: models or folders by sweeps, tests by conditions.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypedDict

from launcher.experiments.kind_interface import Kind, ReadsImages, Role
from launcher.experiments.taskfile.entries import (
    NO_DEPENDENCIES,
    Entry,
    FolderEntry,
    FolderVariant,
    Located,
    MethodEntry,
    NamedDependencies,
    PlainEntry,
    PlainVariant,
    ScoringEntry,
    TrainEntry,
    UnusedSetting,
    Variant,
    kind_of_role,
)
from launcher.experiments.taskfile.language import (
    ALL_POISONED,
    LONGEST_NAME,
    RESOURCE_HINTS,
    words_of,
)
from launcher.experiments.taskfile.legacy_names import LABELS_RATE, percent_of_rate
from launcher.experiments.taskfile.matrix import (
    MOST_COMBINATIONS,
    combinations_of_entry,
    value_label,
)
from launcher.experiments.taskfile.nodes import (
    TRUTHS,
    GivenSetting,
    GivenSettings,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    SourceFile,
    as_list,
    is_null,
    node_or_none,
    plain_value,
)
from launcher.experiments.taskfile.programs import (
    are_quoted,
    flag_names,
    sweeps_of_program,
    swept_programs,
    terms_with_braces,
)
from launcher.experiments.taskfile.schema.json_schema_types import PROGRAM_NAME
from launcher.experiments.taskfile.scope import EVERY, Scope, request_for
from launcher.experiments.taskfile.settings import (
    KnownSettings,
    ResolvedSettings,
    known_settings,
    report_duplicate_key,
    resolve_settings,
    unknown_key,
)
from launcher.experiments.taskfile.values import (
    all_or_none,
    read_data,
    read_label_changes,
    read_model,
)
from launcher.ids import DataId, ModelId, is_word
from launcher.queue.job_options.registry import JobRequest, job_options
from launcher.system.environment import variable_fault
from launcher.system.errors import Problem, Problems, SourceLocation, UsageError
from launcher.system.lazy_regex import compile_lazily

_EXAMPLES: Mapping[Role, str] = {
    Role.TRAIN: "{model: null, data: gan2:pre}",
    Role.METHOD: "{model: gan2:pre%50, method: retrain}",
    Role.TEST: "{model: gan2:pre, data: real:pre}",
    Role.BENCHMARK: '{test: ["gan2:pre&real:pre"]}',
    Role.FOLDER: "{source: FOLDER}",
}
# The position of words that users often write in an entry.
_HINTS: Mapping[str, str] = {
    **RESOURCE_HINTS,
    "device_override": "write resources: {device: …}",
    "poison": "write it in the entry of a training; the ID of the model then names it",
}
# Options of `launcher add` that an entry of a task file does not have.
_PROGRAM_HINTS: Mapping[str, str] = {
    "hold": "entries cannot be held; use launcher hold JOB, or launcher add --hold -- PROGRAM",
}
_PROGRAM_NAME = compile_lazily(PROGRAM_NAME)
_PROGRAM_NAME_REQUIRED = (
    f"expected a name of at most {LONGEST_NAME} bytes without any of @ , : / * ? [ ] {{ }}, quotes and "
    "backslashes. It begins with neither '-' nor '.', and has no space at its ends"
)
_NAME_REQUIRED = (
    f"expected a name of at most {LONGEST_NAME} letters, digits and ._+- that begins with a letter "
    "or digit"
)
_SAME = {"depends": "after", "needs": "after", "requires": "after", "workdir": "cwd",
         "working_directory": "cwd", "environment": "env", "begin": "not_before"}  # fmt: skip

Pairs = Sequence[tuple[ScalarNode, Node]]


def read_section(kind: Kind, node: Node, scope: Scope) -> Iterator[Entry | None]:
    """Yield each entry of a kind's section; None, with the errors reported, for an unreadable one."""
    if is_null(node):
        return
    nodes = as_list(node)
    if kind.role is Role.LABELS and not isinstance(node, SequenceNode):
        _report_labels_section(kind, node, scope)
    elif kind.role is Role.METHOD and nodes and all(isinstance(node, ScalarNode) for node in nodes):
        # `unlearn: [relabel, retrain]` means these methods on every poisoned model
        every = ScalarNode(node.source, node.line, node.column, 1, ALL_POISONED, plain=True)
        words = {"model": every, "method": node}
        yield _read_method(_RawEntry(scope, _common(kind, node.place, scope), words, {}, ({},)))
    elif isinstance(node, SequenceNode):
        planned = scope.searches.entries(kind, nodes, scope.problems, combination=scope.combination)
        yield from (_read_entry(kind, node, scope) for node in planned)
    else:
        message = f"{kind.name}: expected a list"
        scope.problems.add_error(node, "wrong-type", message, "begin each entry with '- '")
        yield None


def read_auto_test(
    key: ScalarNode, node: Node, makers: Iterable[Kind], scope: Scope
) -> Iterator[ScoringEntry]:
    """Yield an entry per kind of models of the file: every model is tested on a list of data IDs.

    Args:
        key: The word `autotest`.
        node: Its value; null gives no entry.
        makers: Kinds that make models in this file.
        scope: Scope of the file.
    """
    if is_null(node):
        return
    testers: dict[str, tuple[Kind, tuple[ResolvedSettings, ...]]] = {}
    for maker in makers:
        tester = kind_of_role(scope.kinds, maker, Role.TEST)
        if tester is None:
            message = f"there must be exactly one job type that tests the models of {maker.name}"
            scope.problems.add_error(key, "no-test-kind", message)
        elif settled := _read_conditions(
            tester, scope.effective_settings(tester, {}), key.place, scope
        ):
            testers[maker.name] = tester, settled
    every = (kind for kind in scope.kinds.values() if kind.role is Role.TEST)
    readers = {kind.name: kind for kind in [kind for kind, _ in testers.values()] or every}
    data = _data_ids(node, readers.values(), scope)
    for name, (tester, settled) in testers.items():
        common = _common(tester, key.place, scope)
        yield ScoringEntry(**common, models=(), maker=name, data=data, settings=settled, others={})


class _Common(TypedDict):
    """The fields of entries of every kind; see `EntryBase`."""

    kind: Kind
    place: SourceLocation
    combination: int
    request: JobRequest
    follows: NamedDependencies


def _common(
    kind: Kind,
    place: SourceLocation,
    scope: Scope,
    resources: Node | None = None,
    follows: NamedDependencies = NO_DEPENDENCIES,
) -> _Common:
    return _Common(
        kind=kind,
        place=place,
        combination=scope.combination,
        request=request_for(kind, resources, place, scope),
        follows=follows,
    )


class _RawEntry(NamedTuple):
    """An entry with sorted keys, before its values are read."""

    scope: Scope
    common: _Common
    words: Mapping[str, Node]
    own_settings: GivenSettings
    combinations: tuple[GivenSettings, ...]  # combinations of the entry's own matrix
    request: Node | None = None  # the entry's own resources and options

    @property
    def kind(self) -> Kind:
        """The kind of its section."""
        return self.common["kind"]

    @property
    def place(self) -> SourceLocation:
        """The location of its start."""
        return self.common["place"]

    @property
    def effective_settings(self) -> GivenSettings:
        """The given value of each setting, without sweeps."""
        return self.scope.effective_settings(self.kind, self.own_settings)

    def find_word(self, name: str) -> Node | None:
        """Return the node of a word, None if it is missing or null."""
        return node_or_none(self.words.get(name))

    def require_word(self, name: str) -> Node | None:
        """Return the node of a required word; report its absence."""
        node = self.find_word(name)
        if node is None:
            wanted = words_of(self.kind)[name].required_text
            message = f"{self.kind.name} needs '{name}': {wanted}"
            self.scope.problems.add_error(self.words.get(name, self), "missing-word", message)
        return node

    def read_model(self, node: Node | None) -> Located[ModelId] | None:
        """Return the model of a node, None if it is invalid or missing."""
        return None if node is None else read_model(node, self.kind, self.scope)


def _read_entry(kind: Kind, node: Node, scope: Scope) -> Entry | None:
    if not isinstance(node, MappingNode):
        example = _EXAMPLES.get(kind.role, "{setting: value}")
        scope.problems.add_error(node, "wrong-type", f"expected an entry such as {example}")
        return None
    if kind.role is Role.LABELS:
        _report_labels_section(kind, node, scope)
        return None
    raw = _raw_entry(kind, node, scope)
    match kind.role:
        case Role.TRAIN:
            return _read_training(raw)
        case Role.METHOD:
            return _read_method(raw)
        case Role.TEST:
            model = raw.require_word("model")
            tests = _read_scoring(raw, "data", () if model is None else (model,))
            return None if model is None else tests
        case Role.BENCHMARK:
            return _read_scoring(raw, "test", as_list(raw.find_word("model")))
        case Role.FOLDER:
            return _read_folder(raw)
        case Role.DATA | Role.PLAIN:
            return _read_plain(raw)
        case Role.SHARED:
            return None  # not a kind of task files


def _report_labels_section(kind: Kind, node: Node, scope: Scope) -> None:
    message = f"{kind.name} jobs are created automatically, one before each poisoned training"
    hint = f"write {kind.name}: 50 in the training's entry, or below defaults"
    scope.problems.add_error(node, "poison-section", message, hint)


def _raw_entry(kind: Kind, node: MappingNode, scope: Scope) -> _RawEntry:
    """Sort an entry's keys into words of the language and settings; report all others."""
    problems = scope.problems
    allowed, available = words_of(kind), {} if kind.entry else job_options()
    labeller = kind_of_role(scope.kinds, kind, Role.LABELS) if kind.role is Role.TRAIN else None
    of = known_settings([kind] if labeller is None else [kind, labeller])
    words: dict[str, Node] = {}
    inside: Pairs = ()
    beside, options = list[tuple[ScalarNode, Node]](), list[tuple[ScalarNode, Node]]()
    for key, value in node.pairs:
        if key.text == "settings" and isinstance(value, MappingNode):
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
        problems.add_error(words["settings"], "wrong-type", message)
    own = of.read_given(inside, problems, _make_unknown_key_reporter(of, scope, is_inside=True))
    for name, said in of.read_given(
        beside, problems, _make_unknown_key_reporter(of, scope, is_inside=False)
    ).items():
        if name in own:
            report_duplicate_key(said.key, name, "here and below settings", problems)
        else:
            own[name] = said
    asked = _merge_job_options(node, node_or_none(words.get("resources")), options, problems)
    follows = NamedDependencies(
        *(_read_job_names(words.get(word), word, problems) for word in NamedDependencies._fields)
    )
    common = _common(kind, node.place, scope, asked, follows)
    # the matrix of a program has free names
    matrix = node_or_none(words.get("matrix")) if kind.entry else None
    combinations = combinations_of_entry(matrix, of, own, scope)
    return _RawEntry(scope, common, words, own, combinations, asked)


def _make_unknown_key_reporter(
    known_settings: KnownSettings, scope: Scope, *, is_inside: bool
) -> Callable[[ScalarNode], Problem]:
    """Return a function that returns the problem of a key, inside or outside of `settings`, that is not known."""

    def refuse(key: ScalarNode) -> Problem:
        kind, names = known_settings.kinds[0], set(known_settings.names)
        if not is_inside:
            names |= {*words_of(kind), *(() if kind.entry else job_options())} - {"settings"}
        others = scope.kinds.values()
        elsewhere = [other.name for other in others if key.text in other.settings.model_fields]
        what, hint = f"a setting of {kind.name}", _hint(kind, key.text)
        return unknown_key(
            key,
            what,
            names,
            elsewhere,
            hint=hint,
            place=known_settings.listing_command,
            old=known_settings.current_by_old_name,
            constants=known_settings.constants,
        )

    return refuse


def _hint(kind: Kind, name: str) -> str:
    """Return the replacement of an unknown word of an entry; '' if there is none."""
    plain = name.replace("-", "_")
    meant = _SAME.get(plain, plain)
    known_here = meant in NamedDependencies._fields and meant in words_of(kind)
    if not kind.entry:
        known_here |= meant in job_options() or meant in kind.settings.model_fields
    if meant != name and known_here:
        return f"did you mean '{meant}'?"
    return _HINTS.get(plain, "") if kind.entry else {**_HINTS, **_PROGRAM_HINTS}.get(meant, "")


def _merge_job_options(
    entry: MappingNode, resources: Node | None, options: Pairs, problems: Problems
) -> Node | None:
    """Return the request of an entry: its `resources` merged with its options."""
    if not options:
        return resources
    if resources is None:
        return replace(entry, pairs=tuple(options))
    if not isinstance(resources, MappingNode):
        return resources
    below = {key.text for key, _ in resources.pairs}
    for key, _ in options:
        if key.text in below:
            report_duplicate_key(key, key.text, "here and below resources", problems)
    more = tuple(pair for pair in options if pair[0].text not in below)
    return replace(resources, pairs=(*resources.pairs, *more))


def _read_job_names(node: Node | None, word: str, problems: Problems) -> tuple[Located[str], ...]:
    """Return the names of jobs in `after` or `after_any`; the plan resolves them."""
    named: list[Located[str]] = []
    for item in as_list(node_or_none(node)):
        if isinstance(item, ScalarNode) and not is_null(item) and item.text.strip():
            named.append(Located(item.text, item))
        else:
            message = f"{word}: expected the name of a job, or a list of names"
            hint = "write a name that the dry run lists"
            problems.add_error(item, "wrong-type", message, hint)
    return tuple(named)


def _read_training(raw: _RawEntry) -> TrainEntry | None:
    kind, scope = raw.kind, raw.scope
    model = raw.find_word("model")  # null or a missing word means a new model
    if isinstance(model, ScalarNode) and model.plain and model.text == "None":
        scope.problems.add_warning(model, "old-name", "write null instead of None")
        model = None
    base = raw.read_model(model)
    data = raw.require_word("data")
    read = None if data is None else read_data(data, (kind,), scope)
    labels = scope.forced_labels or raw.words.get("poison", scope.labels)
    label_changes = read_label_changes(labels, scope) if labels is not None else ()
    labeller = None
    if any(change.value is not None for change in label_changes or ()):
        labeller = kind_of_role(scope.kinds, kind, Role.LABELS)
        if labeller is None:
            message = f"there must be exactly one job type that poisons the labels of {kind.name}"
            scope.problems.add_error(labels, "no-poison-kind", message)
            return None
    variants = _variants(raw, {}, labeller)
    if read is None or not variants or label_changes is None or (base is None) != (model is None):
        return None
    variants = _with_ineffective(variants, kind, read.value)
    request = raw.common["request"]
    if labeller is not None:
        request = request_for(labeller, None, raw.place, scope)
    return TrainEntry(
        **raw.common,
        base=base,
        data=read,
        label_changes=label_changes,
        is_file_poison=len(label_changes) == 1 and labels is not raw.words.get("poison"),
        variants=variants,
        labels_kind=labeller,
        labels_request=request,
    )


def _read_method(raw: _RawEntry) -> MethodEntry | None:
    kind, problems, model = raw.kind, raw.scope.problems, raw.find_word("model")
    every = isinstance(model, ScalarNode) and model.text == ALL_POISONED
    base = None if every else raw.read_model(raw.require_word("model"))
    method = raw.require_word("method")
    nodes = as_list(method)
    if method is not None and not nodes:
        problems.add_error(method, "wrong-type", "expected at least one unlearning method")
    methods = []
    for node in nodes:
        if not isinstance(node, ScalarNode) or not is_word(node.text):
            problems.add_error(node, "wrong-type", "expected the name of an unlearning method")
            continue
        said = (
            {"method": GivenSetting(node, node)} if "method" in kind.settings.model_fields else {}
        )
        if variants := _variants(raw, said):
            methods.append((Located(node.text, node), variants))
    if (base is None and not every) or not methods or len(methods) < len(nodes):
        return None
    if base is not None:
        images = base.value.last.data
        methods = [(name, _with_ineffective(each, kind, images)) for name, each in methods]
    return MethodEntry(**raw.common, base=base, methods=tuple(methods))


def _read_scoring(raw: _RawEntry, word: str, named_nodes: Sequence[Node]) -> ScoringEntry | None:
    """Return tests or benchmarks of the named models on the data of a word."""
    kind, scope = raw.kind, raw.scope
    models = all_or_none(raw.read_model(node) for node in named_nodes)
    node = raw.require_word(word)
    if node is not None and not as_list(node):
        scope.problems.add_error(node, "wrong-type", "expected at least one data ID")
    data = _data_ids(node, (kind,), scope)
    settings = _read_conditions(kind, raw.effective_settings, raw.place, scope)
    if not settings or models is None:
        return None
    first = settings[0]
    others = {
        name: raw.read_model(first.given[name].node)
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


def _read_folder(raw: _RawEntry) -> FolderEntry | None:
    sound, name = _read_given_name(raw)
    variants = all_or_none(_folder_variant(raw, variant) for variant in _variants(raw, {}))
    if not sound or not variants:
        return None
    return FolderEntry(**raw.common, name=name.text if name else raw.kind.name, variants=variants)


def _read_plain(raw: _RawEntry) -> PlainEntry | None:
    kind, problems = raw.kind, raw.scope.problems
    if not (kind.entry or are_quoted(raw.find_word("name"), raw.own_settings, problems)):
        return None
    forced = {**raw.scope.forced.get(EVERY, {}), **raw.scope.forced.get(kind.name, {})}
    sweeps = [] if kind.entry else sweeps_of_program(raw.words, forced, problems)
    if sweeps is None:
        return None
    sound, name = _read_given_name(raw, is_swept=bool(sweeps))
    if not sound or not (kind.entry or check_variables(raw.effective_settings, problems)):
        return None
    settled = resolve_settings(kind, raw.effective_settings, raw.place, problems)
    variants: tuple[PlainVariant, ...] = ()
    if settled is not None and sweeps:
        flags = flag_names(raw.words)
        variants = swept_programs(
            kind,
            name,
            settled,
            raw.own_settings,
            sweeps,
            problems,
            flags,
            terms=_filled_terms(raw),
        )
        if any(not _is_program_name((each.name or "t").partition("@")[0]) for each in variants):
            problems.add_error(name, "name", _PROGRAM_NAME_REQUIRED)
            return None
    elif settled is not None:
        variants = (PlainVariant(None if name is None else name.text, (), settled),)
    return PlainEntry(**raw.common, variants=variants) if variants else None


def _filled_terms(raw: _RawEntry) -> dict[str, ScalarNode]:
    """Return the options of a program that contain braces; those of defaults with the location of the entry."""
    pairs = raw.request.pairs if isinstance(raw.request, MappingNode) else ()
    written = {key.text: node for key, node in pairs if isinstance(node, ScalarNode)}
    source = SourceFile(file=raw.place.file, lines=())
    line, column = raw.place.line - 1, raw.place.column - 1
    return {
        term: node
        if (node := written.get(term)) is not None and node.text == text
        else ScalarNode(source, line, column, 1, text, plain=False)
        for term, text in terms_with_braces(raw.common["request"].terms).items()
    }


def _read_given_name(raw: _RawEntry, *, is_swept: bool = False) -> tuple[bool, ScalarNode | None]:
    """Return whether an entry's name is valid, and the name, None if there is none.

    Args:
        raw: Entry.
        is_swept: Whether values replace names in braces; the final names are then known only later.
    """
    node = raw.find_word("name")
    if node is None:
        return True, None
    is_name, required = _is_name, _NAME_REQUIRED
    if not raw.kind.entry:
        is_name, required = _is_program_name, _PROGRAM_NAME_REQUIRED
    if isinstance(node, ScalarNode) and (is_swept or is_name(node.text)):
        return True, node
    raw.scope.problems.add_error(node, "name", required)
    return False, None


def _is_name(text: str) -> bool:
    return is_word(text) and len(text) <= LONGEST_NAME


def _is_program_name(text: str) -> bool:
    if _PROGRAM_NAME.fullmatch(text) is None or not text.isprintable():
        return False
    return not set("{}") & set(text) and len(text.encode()) <= LONGEST_NAME


def check_variables(given_settings: GivenSettings, problems: Problems) -> bool:
    """Return whether a program's variables have valid names and texts as values; report others.

    A plain number or boolean is refused, because YAML may change its text: 1.50 would be 1.5, and yes true.
    """
    node = given_settings["env"].node if "env" in given_settings else None
    if not isinstance(node, MappingNode):
        return True
    sound = True
    for key, value in node.pairs:
        if fault := variable_fault(key.text):
            sound = False
            problems.add_error(key, "wrong-value", f"env: {fault}")
        text = value.text if isinstance(value, ScalarNode) else ""
        truth = isinstance(value, ScalarNode) and value.plain and text.lower() in TRUTHS
        if isinstance(value, ScalarNode) and isinstance(value.value, str) and not truth:
            continue
        sound = False
        message = f"env: the value of {key.text} is not a string"
        example = text if text and not is_null(value) else ""
        hint = f'write {key.text}: "{text}"' if example else 'write "" for an empty value'
        problems.add_error(value, "wrong-type", message, hint)
    return sound


def _data_ids(
    node: Node | None, readers: Iterable[Kind], scope: Scope
) -> tuple[Located[DataId], ...]:
    """Return one data ID or those of a list, without invalid ones."""
    read = [read_data(each, readers, scope) for each in as_list(node)]
    return tuple(data for data in read if data is not None)


def _variants(
    raw: _RawEntry, more: GivenSettings, labeller: Kind | None = None
) -> tuple[Variant, ...]:
    """Return the variants of an entry; empty if a setting is invalid."""
    scope, variants = raw.scope, list[Variant]()
    for chosen in raw.combinations:
        own = {**raw.own_settings, **chosen, **more}
        given = scope.effective_settings(raw.kind, own)
        settled = resolve_settings(raw.kind, given, raw.place, scope.problems)
        paired, values = (
            scope.swept_in_file(raw.kind, given),
            dict(settled.values) if settled else {},
        )
        labelled = None
        if labeller is not None:
            given = scope.effective_settings(labeller, own)
            followed = {} if settled is None else _follow_training(labeller, given, settled)
            labelled = resolve_settings(labeller, {**followed, **given}, raw.place, scope.problems)
            paired |= scope.swept_in_file(labeller, given)
            values = {**(labelled.values if labelled else {}), **values}
        if settled is None or (labeller is not None and labelled is None):
            return ()
        name = tuple(
            (key, value_label(said, values[key]))
            for key, said in {**paired, **chosen}.items()
            if key in values
        )
        unused = () if labeller is not None else tuple(_settings_of_no_poison(raw, own, chosen))
        variants.append(Variant(name, frozenset(paired), settled, labelled, unused))
    return tuple(variants)


def _with_ineffective(variants: Iterable[Variant], kind: Kind, data: DataId) -> tuple[Variant, ...]:
    """Return variants that also list the settings without effect on their images."""
    if not isinstance(kind, ReadsImages):
        return tuple(variants)
    try:
        images = kind.images(data)
    except UsageError:  # reported where the data ID is checked
        return tuple(variants)
    found = (kind.without_effect(each.settings.values, images) for each in variants)
    return tuple(
        each._replace(settings=each.settings._replace(idle=idle))
        for each, idle in zip(variants, found, strict=True)
    )


def _settings_of_no_poison(
    raw: _RawEntry, own_settings: GivenSettings, given_settings: GivenSettings
) -> Iterator[UnusedSetting]:
    """Yield the given settings that only a poison of a training would use, without those reported elsewhere."""
    kind, scope = raw.kind, raw.scope
    labeller = kind_of_role(scope.kinds, kind, Role.LABELS) if kind.role is Role.TRAIN else None
    if labeller is None:
        return
    given = scope.effective_settings(labeller, own_settings)
    reported = {
        *scope.swept_in_file(labeller, given),
        *scope.forced.get(EVERY, {}),
        *scope.forced.get(labeller.name, {}),
        *kind.settings.model_fields,
    }
    for name, said in given.items():
        if name not in reported:
            yield UnusedSetting(said, name in given_settings)


def _follow_training(
    labeller: Kind, given_settings: GivenSettings, training: ResolvedSettings
) -> GivenSettings:
    """Return the settings of a poison that are not given and take the values of the training."""
    values = {name: plain_value(said.node) for name, said in given_settings.items()}
    leaders = labeller.settings.followed(values).items()
    return {name: training.given[leader] for name, leader in leaders if leader in training.given}


def _folder_variant(raw: _RawEntry, variant: Variant) -> FolderVariant | None:
    """Return one variant of a folder, None if an ID is invalid."""
    settings = raw.kind.settings
    models: dict[str, Located[ModelId]] = {}
    folders: dict[str, Located[str]] = {}
    for name in (*settings.folders, *settings.models):
        value = variant.settings.values[name]
        if not value:
            continue
        node = _node_of_setting(name, str(value), variant.settings, raw.place)
        if name in settings.folders:
            folders[name] = Located(str(value), node)
        if name in settings.models:
            model = raw.read_model(node)
            if model is None:
                return None
            models[name] = model
    return FolderVariant(variant=variant, models=models, folders=folders)


def _node_of_setting(
    name: str, value: str, resolved_settings: ResolvedSettings, entry: SourceLocation
) -> ScalarNode:
    """Return the node of a setting, or its default with the location of the entry."""
    node = resolved_settings.given[name].node if name in resolved_settings.given else None
    if isinstance(node, ScalarNode):
        return node
    source = SourceFile(file=entry.file, lines=())
    return ScalarNode(source, entry.line - 1, entry.column - 1, 1, value, plain=True)


def _read_conditions(
    kind: Kind, given_settings: GivenSettings, place: SourceLocation, scope: Scope
) -> tuple[ResolvedSettings, ...]:
    """Return the settings of a test per condition; empty if a setting is invalid."""
    swept = {
        name: given_settings[name]
        for name in kind.settings.conditions
        if name in given_settings and isinstance(given_settings[name].node, SequenceNode)
    }
    values = [[said._replace(node=node) for node in as_list(said.node)] for said in swept.values()]
    count = math.prod(map(len, values))
    if count == 0 or count > MOST_COMBINATIONS:
        names = " and ".join(swept)
        message = f"{names}: expected 1 to {MOST_COMBINATIONS:,} conditions, got {count:,}"
        first = next(iter(swept.values())).node
        scope.problems.add_error(first, "conditions", message, "write at least one value")
        return ()
    settled = all_or_none(
        resolve_settings(
            kind, {**given_settings, **dict(zip(swept, chosen, strict=True))}, place, scope.problems
        )
        for chosen in itertools.product(*values)
    )
    return settled or ()
