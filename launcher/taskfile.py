"""A task file, read: YAML with positions becomes entries; all errors are found in one pass.

    name: quickstart
    about: one line
    defaults: {lr: 0.001, data_root: data/quickstart}
    resources: {cpus: 2}
    train: [{model: null, data: gan2:pre, poison: [0, 20]}]
    autotest: [real:pre, gan2:pre]

`defaults` hold for every kind that knows the key; below the name of a kind they hold for it alone.
Sections are the names of the installed kinds. What a file asks for is worked out by `plan`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.document import MOST_BYTES, Fields, Items, Node, Scalar, read_document
from launcher.entries import (
    AutoTest,
    Entry,
    TrainEntry,
    UnlearnEntry,
    read_auto_test,
    read_entry,
)
from launcher.errors import Place, Problem, Severity, TaskFileError, UsageError, nearest
from launcher.kinds import NO_WORDS, Kind, Role, Words
from launcher.settings import Given, known_settings, unknown_key
from launcher.written import Asked, Scope, is_null, read_asked

MOST_NAME_BYTES = 100

_TOP = ("name", "about", "defaults", "resources", "autotest")
_MAKERS = (Role.TRAIN, Role.UNLEARN)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFile:
    """What a task file says, entry by entry, in its order."""

    file: str  # as its reader named it
    name: str  # of the run: one safe folder name
    about: str
    entries: tuple[Entry, ...]
    words: Words  # subsets and modifiers of the user
    problems: tuple[Problem, ...]  # found while reading; `plan` raises the errors with its own
    whole: bool  # False when an entry that makes models could not be read

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems for which nothing may be queued."""
        return tuple(one for one in self.problems if one.severity is Severity.ERROR)


def read_taskfile(path: Path, kinds: Mapping[str, Kind]) -> TaskFile:
    """Read a task file.

    Its located errors are kept in `problems`, so that `plan` can tell them together with what
    only a plan finds; nothing can be planned while there is one.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        TaskFileError: it is not a YAML mapping, so that nothing more can be said.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        by_stem = {Path(name).stem: name for name in _neighbours(path)}
        close = nearest(path.stem, by_stem)
        hint = f", did you mean {path.with_name(by_stem[close])}?" if close else ""
        raise UsageError(f"no task file {str(path)!r}{hint or '; give the path of one'}") from error
    except IsADirectoryError as error:
        inside = _neighbours(path / "x.yaml")
        hint = f", such as {path / inside[0]}" if inside else ""
        message = f"{str(path)!r} is a folder; give the path of a task file{hint}"
        raise UsageError(message) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read task file {str(path)!r}: {error}") from error
    if len(data) > MOST_BYTES:
        raise UsageError(f"{str(path)!r} is no task file: it has more than {MOST_BYTES:,} bytes")
    return parse(_decoded(data, str(path)), file=str(path), kinds=kinds)


def parse(text: str, *, file: str, kinds: Mapping[str, Kind]) -> TaskFile:
    """Read the text of a task file; `file` is what its errors call it.

    Raises:
        TaskFileError: it is not a YAML mapping, so that nothing more can be said.
    """
    problems: list[Problem] = []
    root = read_document(text, file, problems)
    if not isinstance(root, Fields):
        said = "is empty" if root is None else "is not a mapping"
        place = Place(file=file, line=1, column=1, text="") if root is None else root.place
        message = f"the task file {said}: begin with 'name: my-study'"
        raise TaskFileError([*problems, Problem(code="no-mapping", message=message, place=place)])
    top = {key.text: (key, node) for key, node in root.pairs}
    scope = _scope(top, kinds, problems)
    name = _name(top, root, scope)
    about = top["about"][1] if "about" in top else None
    if about is not None and not isinstance(about, Scalar):
        scope.blame(about.place, "wrong-type", "about: expected one line of text")
    entries, whole = _entries(root, scope)
    if not entries and not problems:
        known = ", ".join(sorted(_sections(kinds)))
        scope.blame(root.place, "no-jobs", "the file asks for no job", f"add a section: {known}")
    return TaskFile(
        file=file,
        name=name,
        about=about.text if isinstance(about, Scalar) and not is_null(about) else "",
        entries=entries,
        words=NO_WORDS,
        problems=in_order(problems),
        whole=whole,
    )


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return each problem once, in the order in which they stand in their file."""
    once = dict.fromkeys(problems)
    return tuple(
        sorted(once, key=lambda one: (one.place.line, one.place.column) if one.place else (0, 0))
    )


def name_fault(name: str) -> str | None:
    """Tell why `name` cannot be the name of a run, which is one folder below runs/; None if it can."""
    if not name:
        return "is empty"
    if "/" in name or "\\" in name or name in (".", ".."):
        return "would lead outside its folder: no '/', no '\\', not '.' or '..'"
    if name[0] in "-." or name != name.strip():
        return "begins with '-', '.' or a space, or ends with a space"
    if not name.isprintable():
        return "holds a character that cannot be printed"
    if len(name.encode(errors="replace")) > MOST_NAME_BYTES:
        return f"is longer than {MOST_NAME_BYTES} bytes"
    return None


def _name(top: Mapping[str, tuple[Scalar, Node]], root: Fields, scope: Scope) -> str:
    if "name" not in top:
        scope.blame(root.place, "no-name", "the file has no name", "begin with 'name: my-study'")
        return ""
    node = top["name"][1]
    if not isinstance(node, Scalar):
        scope.blame(node.place, "wrong-type", "name: expected one word")
        return ""
    if fault := name_fault("" if is_null(node) else node.text):
        scope.blame(
            node.place, "name", f"the name of a run names its folder; {node.text!r} {fault}"
        )
    return node.text


def _scope(
    top: Mapping[str, tuple[Scalar, Node]], kinds: Mapping[str, Kind], problems: list[Problem]
) -> Scope:
    """Read what holds for the whole file: defaults and resources."""
    scope = Scope(kinds=kinds, problems=problems)
    defaults: dict[str, tuple[Scalar, Node]] = {}
    by_kind: dict[str, Given] = {}
    if "defaults" in top and not is_null(top["defaults"][1]):
        node = top["defaults"][1]
        if isinstance(node, Fields):
            defaults, by_kind = _defaults(node, scope)
        else:
            scope.blame(node.place, "wrong-type", "defaults: expected settings: {lr: 0.001}")
    asked = Asked()
    if "resources" in top and not is_null(top["resources"][1]):
        asked = read_asked(top["resources"][1], asked, scope)
    return Scope(
        kinds=kinds, problems=problems, defaults=defaults, kind_defaults=by_kind, asked=asked
    )


def _defaults(
    node: Fields, scope: Scope
) -> tuple[dict[str, tuple[Scalar, Node]], dict[str, Given]]:
    known = {name for kind in scope.kinds.values() for name in known_settings(kind)}
    defaults: dict[str, tuple[Scalar, Node]] = {}
    by_kind: dict[str, Given] = {}
    for key, value in node.pairs:
        if key.text in scope.kinds and isinstance(value, Fields):
            own = known_settings(scope.kinds[key.text])
            by_kind[key.text] = {inner.text: (inner, one) for inner, one in value.pairs}
            what = f"a setting of {key.text}"
            strange = [inner for inner, _ in value.pairs if inner.text not in own]
            scope.problems.extend(unknown_key(inner, what, own) for inner in strange)
        elif key.text in known:
            defaults[key.text] = (key, value)
        else:
            scope.problems.append(unknown_key(key, "a setting of any kind", known))
    return defaults, by_kind


def _sections(kinds: Mapping[str, Kind]) -> tuple[str, ...]:
    return tuple(name for name, kind in kinds.items() if kind.role is not Role.POISON)


def _entries(root: Fields, scope: Scope) -> tuple[tuple[Entry, ...], bool]:
    """Read every section; tell also whether all that makes models could be read."""
    found: list[Entry] = []
    whole = True
    makers = [scope.kinds[key.text] for key, node in root.pairs if _makes(key, node, scope)]
    for key, node in root.pairs:
        if key.text == "autotest":
            auto = read_auto_test(key, node, makers, scope)
            found += [] if auto is None else [auto]
        elif key.text in scope.kinds:
            kind = scope.kinds[key.text]
            read = [read_entry(kind, one, scope) for one in _section(key, node, scope)]
            found += [one for one in read if one is not None]
            whole &= kind.role not in _MAKERS or None not in read
        elif key.text not in _TOP:
            known = (*_TOP, *_sections(scope.kinds))
            scope.problems.append(unknown_key(key, "a section of a task file", known))
            whole = False
    _warn_untested(root, found, scope)
    return tuple(found), whole


def _makes(key: Scalar, node: Node, scope: Scope) -> bool:
    kind = scope.kinds.get(key.text)
    return kind is not None and kind.role in _MAKERS and isinstance(node, Items)


def _section(key: Scalar, node: Node, scope: Scope) -> tuple[Node, ...]:
    if is_null(node):
        return ()
    if isinstance(node, Items):
        return node.nodes
    message = f"{key.text}: expected a list"
    scope.blame(node.place, "wrong-type", message, "begin each entry with '- '")
    return ()


def _warn_untested(root: Fields, entries: Iterable[Entry], scope: Scope) -> None:
    """Warn of an autotest in a file that makes no model."""
    found = list(entries)
    auto = next((one for one in found if isinstance(one, AutoTest)), None)
    makes = any(isinstance(one, TrainEntry | UnlearnEntry) for one in found)
    if auto is not None and not makes and not scope.problems:
        key = next(key for key, _ in root.pairs if key.text == "autotest")
        message = "autotest tests the models that this file makes, and it makes none"
        problem = Problem(
            code="no-models", message=message, severity=Severity.WARNING, place=key.place
        )
        scope.problems.append(problem)


def _neighbours(path: Path) -> list[str]:
    try:
        return sorted(one.name for one in path.parent.iterdir() if one.suffix in (".yaml", ".yml"))
    except (OSError, ValueError):
        return []


def _decoded(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", errors="replace").splitlines() or [""]
        if data[: error.start].endswith(b"\n"):
            before.append("")
        rest = data[error.start :].split(b"\n", 1)[0].decode(errors="replace")
        place = Place(
            file=file,
            line=len(before),
            column=len(before[-1]) + 1,
            text=before[-1] + rest.rstrip("\r"),
        )
        message = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        problem = Problem(
            code="not-utf8", message=message, place=place, hint="save the file as UTF-8"
        )
        raise TaskFileError([problem]) from error
