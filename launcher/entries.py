"""The entries of a task file's sections: what to train, to unlearn, to test, to run.

Each is read by the role of its kind. Words of the language (`model`, `data`, `poison`, `method`,
`name`, `resources`) stand beside the kind's own settings; a setting that has such a name is given
under `settings:`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from launcher.document import Fields, Node, Scalar
from launcher.errors import Place
from launcher.ids import DataId, ModelId, Poison, is_word
from launcher.kinds import Kind, Role
from launcher.settings import Given, Settled, known_settings, settle, unknown_key
from launcher.written import (
    Asked,
    At,
    Scope,
    is_null,
    listed,
    read_asked,
    read_data,
    read_model,
    read_poisons,
)

_COMMON = ("resources", "settings")
_WORDS: Mapping[Role, tuple[str, ...]] = {
    Role.DATA: ("name", *_COMMON),
    Role.POISON: _COMMON,
    Role.TRAIN: ("model", "data", "poison", *_COMMON),
    Role.UNLEARN: ("model", "method", *_COMMON),
    Role.TEST: ("model", "data", *_COMMON),
    Role.PLAIN: ("name", *_COMMON),
}
_EXAMPLES: Mapping[Role, str] = {
    Role.TRAIN: "{model: null, data: gan2:pre}",
    Role.UNLEARN: "{model: gan2:pre%50, method: retrain}",
    Role.TEST: "{model: gan2:pre, data: real:pre}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainEntry:
    """One training, or one per poison."""

    kind: Kind
    place: Place
    base: At[ModelId] | None
    data: At[DataId]
    poisons: tuple[At[Poison | None], ...]  # empty: clean
    settings: Settled
    poison_kind: Kind | None  # makes the poison records; None where nothing is poisoned
    poison_settings: Settled | None
    asked: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlearnEntry:
    """One unlearning for each method."""

    kind: Kind
    place: Place
    base: At[ModelId]
    methods: tuple[tuple[At[str], Settled], ...]
    asked: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class TestEntry:
    """Tests of one model, one for each data ID."""

    __test__ = False  # not a test case, whatever its name

    kind: Kind
    place: Place
    model: At[ModelId]
    data: tuple[At[DataId], ...]
    settings: Settled
    asked: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoTest:
    """Tests of every model that the file makes, one for each data ID."""

    place: Place
    data: tuple[At[DataId], ...]
    kinds: Mapping[str, tuple[Kind, Settled]]  # by the name of the kind that makes the model
    asked: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainEntry:
    """A job of a kind that makes data, or of one that knows neither models nor data."""

    kind: Kind
    place: Place
    name: str | None
    settings: Settled
    asked: Asked


Entry = TrainEntry | UnlearnEntry | TestEntry | AutoTest | PlainEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class _Raw:
    """An entry whose keys were told apart, its values not yet read."""

    kind: Kind
    place: Place
    words: Mapping[str, Node]
    own: Given
    asked: Asked


def companion(kinds: Mapping[str, Kind], kind: Kind, role: Role) -> Kind | None:
    """Return the kind of that role that works with `kind`: of its laboratory, or the only one."""
    found = [one for one in kinds.values() if one.role is role]
    ours = [one for one in found if _laboratory(one) == _laboratory(kind)]
    candidates = ours or found
    return candidates[0] if len(candidates) == 1 else None


def read_entry(kind: Kind, node: Node, scope: Scope) -> Entry | None:
    """Read one entry of a kind's section; None where it is too broken, with the reasons told."""
    if not isinstance(node, Fields):
        example = _EXAMPLES.get(kind.role, "{setting: value}")
        scope.blame(node.place, "wrong-type", f"expected an entry such as {example}")
        return None
    if kind.role is Role.POISON:
        message = f"{kind.name} jobs arise by themselves, one before each poisoned training"
        hint = "write poison: 50 in the training's entry"
        scope.blame(node.place, "poison-section", message, hint)
        return None
    raw = _sort(kind, node, scope)
    match kind.role:
        case Role.TRAIN:
            return _train(raw, scope)
        case Role.UNLEARN:
            return _unlearn(raw, scope)
        case Role.TEST:
            return _test(raw, scope)
        case Role.DATA | Role.PLAIN:
            return _plain(raw, scope)


def read_auto_test(
    key: Scalar, node: Node, makers: Iterable[Kind], scope: Scope
) -> AutoTest | None:
    """Read the list of data IDs on which every model of the file is tested.

    Args:
        key: the word `autotest`.
        node: its value; nothing written gives None.
        makers: the kinds that make models in this file.
        scope: what holds for the file.
    """
    if is_null(node):
        return None
    kinds: dict[str, tuple[Kind, Settled]] = {}
    for maker in makers:
        tester = companion(scope.kinds, maker, Role.TEST)
        if tester is None:
            message = f"no kind, or more than one, could test the models of {maker.name}"
            scope.blame(key.place, "no-test-kind", message)
            continue
        settled = settle(tester, scope.given(tester, {}), key.place, scope.problems)
        if settled is not None:
            kinds[maker.name] = (tester, settled)
    testers = {tester.name: tester for tester, _ in kinds.values()}
    testers = testers or {one.name: one for one in scope.kinds.values() if one.role is Role.TEST}
    read = [read_data(one, testers.values(), scope) for one in listed(node)]
    found = tuple(one for one in read if one is not None)
    return AutoTest(place=key.place, data=found, kinds=kinds, asked=scope.asked)


def _laboratory(kind: Kind) -> str:
    """Return the top package of a kind's code: kinds of one package know each other's files."""
    return kind.entry.partition(":")[0].partition(".")[0]


def _sort(kind: Kind, node: Fields, scope: Scope) -> _Raw:
    """Part an entry into words of the language and settings; blame what is neither."""
    allowed = set(known_settings(kind))
    poisoner = companion(scope.kinds, kind, Role.POISON) if kind.role is Role.TRAIN else None
    if poisoner is not None:
        allowed |= set(known_settings(poisoner))
    words: dict[str, Node] = {}
    own: dict[str, tuple[Scalar, Node]] = {}
    for key, value in node.pairs:
        if key.text == "settings" and isinstance(value, Fields):
            own |= {inner.text: (inner, one) for inner, one in value.pairs}
        elif key.text in _WORDS[kind.role]:
            words[key.text] = value
    for key, value in node.pairs:
        if key.text in _WORDS[kind.role]:
            continue
        if key.text in own:
            scope.blame(key.place, "duplicate-key", f"{key.text!r} is given under settings, too")
        own[key.text] = (key, value)
    if "settings" in words and not is_null(words["settings"]):
        scope.blame(words["settings"].place, "wrong-type", "expected settings such as {lr: 0.001}")
    for name in [name for name in own if name not in allowed]:
        elsewhere = [one.name for one in scope.kinds.values() if name in known_settings(one)]
        known = (allowed | set(_WORDS[kind.role])) - {"settings"}
        what = f"a setting of {kind.name}"
        scope.problems.append(unknown_key(own[name][0], what, known, elsewhere))
    own = {name: pair for name, pair in own.items() if name in allowed}
    asked = read_asked(words["resources"], scope.asked, scope) if "resources" in words else None
    return _Raw(kind=kind, place=node.place, words=words, own=own, asked=asked or scope.asked)


def _train(raw: _Raw, scope: Scope) -> TrainEntry | None:
    kind, words = raw.kind, raw.words
    model = words.get("model")  # null is a new model, and so is no word at all
    base = None if model is None or is_null(model) else read_model(model, kind, scope)
    data = _needed(raw, "data", scope)
    read = None if data is None else read_data(data, (kind,), scope)
    poisons = read_poisons(words["poison"], scope) if "poison" in words else ()
    settings = settle(kind, scope.given(kind, raw.own), raw.place, scope.problems)
    poisoner, poison_settings = None, None
    if any(one.value is not None for one in poisons or ()):
        poisoner = companion(scope.kinds, kind, Role.POISON)
        if poisoner is None:
            message = f"no kind, or more than one, could poison the labels of {kind.name}"
            scope.blame(words["poison"].place, "no-poison-kind", message)
            return None
        given = scope.given(poisoner, raw.own)
        poison_settings = settle(poisoner, given, raw.place, scope.problems)
        if poison_settings is None:
            return None
    if read is None or settings is None or poisons is None or (base is None) != is_null(model):
        return None
    return TrainEntry(
        kind=kind,
        place=raw.place,
        base=base,
        data=read,
        poisons=poisons,
        settings=settings,
        poison_kind=poisoner,
        poison_settings=poison_settings,
        asked=raw.asked,
    )


def _unlearn(raw: _Raw, scope: Scope) -> UnlearnEntry | None:
    kind = raw.kind
    model, method = _needed(raw, "model", scope), _needed(raw, "method", scope)
    base = None if model is None else read_model(model, kind, scope)
    nodes = () if method is None else listed(method)
    methods = []
    for one in nodes:
        if not isinstance(one, Scalar) or not is_word(one.text):
            scope.blame(one.place, "wrong-type", "expected the name of an unlearning method")
            continue
        given = scope.given(kind, raw.own)
        if "method" in known_settings(kind):
            given["method"] = (one, one)
        settings = settle(kind, given, raw.place, scope.problems)
        if settings is not None:
            methods.append((At(one.text, one), settings))
    if base is None or not methods or len(methods) < len(nodes):
        return None
    return UnlearnEntry(
        kind=kind, place=raw.place, base=base, methods=tuple(methods), asked=raw.asked
    )


def _test(raw: _Raw, scope: Scope) -> TestEntry | None:
    kind = raw.kind
    model, data = _needed(raw, "model", scope), _needed(raw, "data", scope)
    tested = None if model is None else read_model(model, kind, scope)
    read = [] if data is None else [read_data(one, (kind,), scope) for one in listed(data)]
    settings = settle(kind, scope.given(kind, raw.own), raw.place, scope.problems)
    if tested is None or settings is None:
        return None
    return TestEntry(
        kind=kind,
        place=raw.place,
        model=tested,
        data=tuple(one for one in read if one is not None),
        settings=settings,
        asked=raw.asked,
    )


def _plain(raw: _Raw, scope: Scope) -> PlainEntry | None:
    node = raw.words.get("name")
    name = node.text if isinstance(node, Scalar) and not is_null(node) else None
    if node is not None and not is_null(node) and (name is None or not _is_name(name)):
        scope.blame(node.place, "name", "expected a name of at most 100 letters, digits and ._+-")
        return None
    settings = settle(raw.kind, scope.given(raw.kind, raw.own), raw.place, scope.problems)
    if settings is None:
        return None
    return PlainEntry(
        kind=raw.kind,
        place=raw.place,
        name=name,
        settings=settings,
        asked=raw.asked,
    )


def _is_name(text: str) -> bool:
    return is_word(text) and len(text) <= 100


def _needed(raw: _Raw, word: str, scope: Scope) -> Node | None:
    found = raw.words.get(word)
    if found is not None and not is_null(found):
        return found
    wanted = {"model": "a model ID", "data": "a data ID", "method": "a method"}[word]
    place = raw.place if found is None else found.place
    scope.blame(place, "missing-word", f"{raw.kind.name} needs '{word}': {wanted}")
    return None
