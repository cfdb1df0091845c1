"""An entry of a section with its keys sorted: words of the language, settings, its own matrix.

Words of the language (`model`, `data`, `poison`, `method`, `matrix`, `name`, `after`, `resources`) stand beside
the kind's own settings; a setting that has such a name is given under `settings:`. Beside the settings of a
program stand the options of a job, too, as on the command line of `launcher add`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypedDict

from launcher.errors import Place, Problems
from launcher.ids import is_word
from launcher.job_options.registry import JobRequest, job_options
from launcher.kind_interface import Kind, Role
from launcher.kinds import variable_fault
from launcher.taskfile.entries import At, Follows, companion
from launcher.taskfile.language import LONGEST_NAME, RESOURCE_HINTS, WORDS
from launcher.taskfile.legacy_names import LABELS_RATE, percent_of_rate
from launcher.taskfile.matrix import combinations_of_entry
from launcher.taskfile.scope import Scope, request_for
from launcher.taskfile.settings import Known, known, unknown_key
from launcher.taskfile.yaml_tree import TRUTHS, Fields, Given, Node, Scalar, is_null, listed

# Where words stand that people look for in an entry.
_HINTS: Mapping[str, str] = {
    **RESOURCE_HINTS,
    "device_override": "it is resources: {device: …} today",
    "poison": "it belongs to a training: what is trained so is tested and unlearned by its ID",
}
# What `launcher add` can say of a program, and an entry of a task file cannot.
_PROGRAM_HINTS: Mapping[str, str] = {
    "hold": "an entry is not held; launcher hold JOB, or launcher add --hold -- PROGRAM",
}
_SAME = {"depends": "after", "needs": "after", "requires": "after", "workdir": "cwd",
         "working_directory": "cwd", "environment": "env", "begin": "not_before"}  # fmt: skip

Pairs = Sequence[tuple[Scalar, Node]]


class Common(TypedDict):
    """What entries of every kind say; see `Asked`."""

    kind: Kind
    place: Place
    combination: int
    request: JobRequest
    follows: Follows


class RawEntry(NamedTuple):
    """An entry whose keys were sorted, its values not yet read."""

    kind: Kind
    place: Place
    words: Mapping[str, Node]
    own: Given
    combinations: tuple[Given, ...]  # of its own matrix
    common: Common

    def word(self, name: str) -> Node | None:
        """Return what stands behind a word; None where that is nothing."""
        node = self.words.get(name)
        return None if is_null(node) else node

    def needed(self, name: str, problems: Problems) -> Node | None:
        """Return what stands behind a word that an entry must have; blame its absence."""
        node = self.word(name)
        if node is None:
            wanted = WORDS[self.kind.role][name].needed
            message = f"{self.kind.name} needs '{name}': {wanted}"
            problems.blame(self.words.get(name, self), "missing-word", message)
        return node


def read_raw_entry(kind: Kind, node: Fields, scope: Scope) -> RawEntry:
    """Sort an entry's keys into words of the language and settings; report what is neither."""
    problems, place = scope.problems, node.place
    allowed, available = WORDS[kind.role], {} if kind.entry else job_options()
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
            message = f"{name!r} is given under settings, too"
            problems.blame(said.key, "duplicate-key", message, "leave one of them out")
        else:
            own[name] = said
    matrix = words.get("matrix")
    asked = _asked(node, words.get("resources"), options, problems)
    common = Common(
        kind=kind,
        place=place,
        combination=scope.combination,
        request=request_for(kind, asked, place, scope),
        follows=Follows(*(_followed(words.get(word), word, problems) for word in Follows._fields)),
    )
    combinations = combinations_of_entry(None if is_null(matrix) else matrix, of, own, scope)
    return RawEntry(kind, place, words, own, combinations, common)


def _refusing(of: Known, scope: Scope, *, is_inside: bool) -> Callable[[Scalar], None]:
    """Return what blames a key, below `settings` or beside it, that is neither a word nor a setting."""

    def refuse(key: Scalar) -> None:
        kind, names = of.kinds[0], set(of.names)
        if not is_inside:
            names |= {*WORDS[kind.role], *(() if kind.entry else job_options())} - {"settings"}
        others = scope.kinds.values()
        elsewhere = [other.name for other in others if key.text in other.settings.model_fields]
        what, hint = f"a setting of {kind.name}", _hint(kind, key.text)
        scope.problems.append(
            unknown_key(key, what, names, elsewhere, hint=hint, where=of.where, old=of.old)
        )

    return refuse


def _hint(kind: Kind, name: str) -> str:
    """Return what to write instead of a word that an entry does not know; '' if that is unknown."""
    plain = name.replace("-", "_")
    meant = _SAME.get(plain, plain)
    known_here = meant in Follows._fields and meant in WORDS[kind.role]
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
    if is_null(resources) or resources is None:
        return replace(entry, pairs=tuple(options))
    if not isinstance(resources, Fields):
        return resources
    below = {key.text for key, _ in resources.pairs}
    for key, _ in options:
        if key.text in below:
            message = f"{key.text!r} is given under resources, too"
            problems.blame(key, "duplicate-key", message, "leave one of them out")
    more = tuple(pair for pair in options if pair[0].text not in below)
    return replace(resources, pairs=(*resources.pairs, *more))


def _followed(node: Node | None, word: str, problems: Problems) -> tuple[At[str], ...]:
    """Return the names of jobs in `after` or `after_any`; what they mean is for the plan to find out."""
    named: list[At[str]] = []
    for item in () if node is None or is_null(node) else listed(node):
        if isinstance(item, Scalar) and not is_null(item) and item.text.strip():
            named.append(At(item.text, item))
        else:
            message = f"{word}: expected the name of a job, or a list of names"
            hint = "a job is named as the dry run lists it"
            problems.blame(item, "wrong-type", message, hint)
    return tuple(named)


def given_name(raw: RawEntry, problems: Problems) -> tuple[bool, str | None]:
    """Return whether an entry's name can be one, and the name; None where there is none."""
    node = raw.word("name")
    if node is None:
        return True, None
    if isinstance(node, Scalar) and is_word(node.text) and len(node.text) <= LONGEST_NAME:
        return True, node.text
    wanted = f"expected a name of at most {LONGEST_NAME} letters, digits and ._+-"
    problems.blame(node, "name", wanted)
    return False, None


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
        message = f"env: {key.text} is not given as a text"
        example = text if text and not is_null(value) else ""
        hint = f'write {key.text}: "{text}"' if example else 'write "" for nothing'
        problems.blame(value, "wrong-type", message, hint)
    return sound
