"""Code snapshots: jobs stay done although the code of a package is restructured and its results are equal.

A package can contain two files:

- `code_snapshot.json.gz` holds the texts of its modules as they were once, the old code.
- `code_promise.json` holds digests of the present definitions. The authors state that results equal those of the old
  code, except for definitions that are marked as changed.

If all relevant code of a job is as promised, the digest of its code is that of the old code. Marks of definitions that
it uses are added to it. Otherwise the present code counts. Modules that are in neither file, such as a user's plug-in
or those of other packages, are read from the disk in both cases. `python -m launcher.code_snapshot` writes the files.
"""

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from launcher.code_identity.graph import CodeGraph
from launcher.code_identity.links import API_MODULE, LAUNCHER, RESULT_MODULES, digest_of
from launcher.code_identity.modules import DiskModules, Modules, decode_text, top_package
from launcher.code_identity.text import ModuleText
from launcher.errors import UsageError

PROGRAM = "python -m launcher.code_snapshot"
SNAPSHOT_FILE, PROMISE_FILE = "code_snapshot.json.gz", "code_promise.json"
SCHEMA = 1  # schema of both files
_GZIP = zlib.MAX_WBITS | 16  # format of the compressed file
# characters of the two parts of a digest; two definitions of a package never share all by chance
_PLAIN, _LINKED = 8, 12


class ChangedNames(NamedTuple):
    """The full names of definitions and modules that differ from a promise."""

    edited: frozenset[str]
    others: frozenset[str]  # definitions that only refer to edited ones

    @classmethod
    def join(cls, parts: Iterable["ChangedNames"]) -> "ChangedNames":
        """Return the names of several modules."""
        pairs = [*parts]
        return cls(
            frozenset().union(*(each.edited for each in pairs)),
            frozenset().union(*(each.others for each in pairs)),
        )

    def decisive(self) -> frozenset[str]:
        """Return the names that show a change best."""
        return self.edited or self.others


class PromisedElement(NamedTuple):
    """A definition or statement of a promise."""

    names: tuple[str, ...]  # names that it binds
    # with all references by name, followed by one with references within its package by content
    digest: str
    optional: bool  # it counts only if one of its names is used


class PromisedModule(NamedTuple):
    """The parts of a module that a promise records."""

    imports: tuple[str, ...]  # modules of its package, and of the launcher
    effects: tuple[str, ...]  # unused imports from other packages
    elements: tuple[PromisedElement, ...]

    def changes_to(self, other: "PromisedModule") -> "PromisedModule":
        """Return what only one of two modules has."""
        mine, others = Counter(self.elements), Counter(other.elements)
        return PromisedModule(
            tuple(sorted({*self.imports} ^ {*other.imports})),
            tuple(sorted({*self.effects} ^ {*other.effects})),
            tuple(((mine - others) + (others - mine)).elements()),
        )

    def names(self, module: str) -> ChangedNames:
        """Return the names of changes, which `changes_to` has returned for a module."""
        plain = Counter((each.names, each.digest[:_PLAIN]) for each in self.elements)
        names: tuple[set[str], set[str]] = set(), set()
        for each in self.elements:
            is_in_both = plain[each.names, each.digest[:_PLAIN]] % 2 == 0
            names[is_in_both].add(".".join((module, *each.names[:1])))
        if self.imports or self.effects:
            names[0].add(module)
        return ChangedNames(*map(frozenset, names))


class CodeSnapshot:
    """The two files of a package. Each is decoded when it is needed.

    Args:
        folder: that contains the files.

    Raises:
        OSError: there are none.
    """

    def __init__(self, folder: Path) -> None:
        self._snapshot, self._promise = folder / SNAPSHOT_FILE, folder / PROMISE_FILE
        self._contents = self._snapshot.read_bytes(), self._promise.read_bytes()
        self.key = hashlib.sha256(b"".join(map(_sha256, self._contents))).hexdigest()
        self._texts: dict[str, ModuleText | None] = {}

    @cached_property
    def modules(self) -> Mapping[str, tuple[bool, Any]]:
        """The modules of the old code → whether each is a package, and its text as JSON."""
        modules: dict[str, tuple[bool, Any]] = _decode(
            self._snapshot, lambda: json.loads(zlib.decompress(self._contents[0], _GZIP))
        )["modules"]
        return modules

    @cached_property
    def changed(self) -> Mapping[str, str]:
        """The definitions whose results differ from those of the old code → a mark of the change."""
        return dict(self._promise_record["changed"])

    @cached_property
    def promise(self) -> Mapping[str, PromisedModule]:
        """The promised modules."""
        modules: Mapping[str, Any] = self._promise_record["modules"]
        return {name: _decode_promised(record) for name, record in modules.items()}

    @cached_property
    def _promise_record(self) -> dict[str, Any]:
        return _decode(self._promise, lambda: json.loads(self._contents[1]))

    def text(self, module: str) -> ModuleText | None:
        """Return the old content of a module."""
        if module not in self._texts:
            record = self.modules[module][1]
            self._texts[module] = None if record is None else decode_text(record)
        return self._texts[module]


def find_snapshot(folders: Iterable[Path]) -> CodeSnapshot | None:
    """Return the snapshot in the first of some folders that has one.

    Raises:
        UsageError: one of its files cannot be read, or is missing. Without it, finished jobs would run again.
    """
    for folder in folders:
        try:
            return CodeSnapshot(folder)
        except (FileNotFoundError, NotADirectoryError) as error:
            missing = Path(error.filename)
            others = {SNAPSHOT_FILE, PROMISE_FILE} - {missing.name}
            if any((folder / name).exists() for name in others):
                raise UsageError(
                    f"{missing} is missing, but {others.pop()} is there. Restore it, or install {folder.name} again."
                ) from error
        except OSError as error:
            raise UsageError(f"cannot read {error.filename}: {error.strerror}.") from error
    return None


def promised_module(disk: Modules, graph: CodeGraph, module: str) -> PromisedModule:
    """Return the promise for a module; `graph` is that of the modules on the disk."""
    text = disk.text(module) or ModuleText((), ())
    linker = graph.linker(frozenset({top_package(module)}) - {LAUNCHER})
    digests = zip(linker.plain_digests(module), linker.package_digests(module), strict=True)
    elements = [
        PromisedElement(tuple(element.names), plain[:_PLAIN] + linked[:_LINKED], element.optional)
        for element, (plain, linked) in zip(text.elements, digests, strict=True)
    ]
    # another module may look them up by a text, and a job type names its function by one
    elements += [
        PromisedElement((name,), digest_of(name)[:_PLAIN] + linked[:_LINKED], optional=False)
        for name, linked in linker.reexports(module)
    ]
    return PromisedModule(
        tuple(graph.needed_names(module)),
        tuple(sorted(linker.effects(module))),
        tuple(elements),
    )


def take_snapshot(disk: DiskModules, graph: CodeGraph, package: str, *, replace: bool) -> Path:
    """Store the present code of a package as the old code, and return the folder of the package.

    Args:
        disk: the modules on the disk.
        graph: their graph.
        package: the name of a top-level package.
        replace: whether a snapshot that exists is replaced.

    Raises:
        UsageError: there is no such package, or it has a snapshot that is not to be replaced.
    """
    folder = _package_folder(disk, package)
    if (folder / SNAPSHOT_FILE).exists() and not replace:
        raise UsageError(
            f"{folder / SNAPSHOT_FILE} exists. Run `{PROGRAM} promise {package}`, or add --replace. Jobs that "
            "were done before the latest restructuring then run again."
        )
    _write_snapshot(folder, disk, package)
    _write_promise(folder, _present_promise(disk, graph, package), {})
    return folder


def renew_promise(
    disk: DiskModules, graph: CodeGraph, package: str, changed: Iterable[str]
) -> Path:
    """State that the present code of a package gives the promised results, and return the folder of the package.

    Args:
        disk: the modules on the disk.
        graph: their graph.
        package: the name of a top-level package.
        changed: full names of definitions whose results differ; each is marked.

    Raises:
        UsageError: there is no such package, it has no snapshot, or a marked definition does not exist.
    """
    folder = _package_folder(disk, package)
    snapshot = _existing_snapshot(disk, package)
    modules = _present_promise(disk, graph, package)
    digests = {
        f"{module}.{name}": element.digest
        for module, promised in modules.items()
        for element in promised.elements
        for name in element.names
    }
    for name in changed:
        if name not in digests:
            raise UsageError(f"{package} has no definition {name}. Write MODULE.NAME.")
    if gone := sorted(snapshot.changed.keys() - digests.keys()):
        raise UsageError(
            f"{gone[0]} has other results than the old code, but does not exist any more. In {folder / PROMISE_FILE}, "
            "replace it in `changed` by the definition that does its work now."
        )
    marks = {name: digest_of(snapshot.changed.get(name, ""), digests[name])[:8] for name in changed}
    _write_promise(folder, modules, {**snapshot.changed, **marks})
    return folder


def unpromised(disk: DiskModules, graph: CodeGraph, package: str) -> list[str]:
    """Return the names of modules and definitions that differ from the promise of a package.

    Raises:
        UsageError: the package has no snapshot.
    """
    now = _present_promise(disk, graph, package)
    then = _existing_snapshot(disk, package).promise
    changes = ChangedNames.join(
        now[module].changes_to(then[module]).names(module) for module in now.keys() & then.keys()
    )
    return sorted({*(now.keys() ^ then.keys()), *changes.decisive()})


def _package_folder(disk: DiskModules, package: str) -> Path:
    if not disk.is_package(package) or "." in package:
        raise UsageError(
            f"{package} is not a top-level package that can be imported. Write its name, such as lab."
        )
    return disk.places(package)[0]


def _existing_snapshot(disk: DiskModules, package: str) -> CodeSnapshot:
    snapshot = find_snapshot(disk.places(package))
    if snapshot is None:
        raise UsageError(f"{package} has no snapshot. Run `{PROGRAM} take {package}`.")
    return snapshot


def _present_promise(disk: Modules, graph: CodeGraph, package: str) -> dict[str, PromisedModule]:
    """Return the promise for the present code of a package."""
    modules = sorted((package, *disk.modules_below(package)))
    if package == LAUNCHER:
        modules = sorted(RESULT_MODULES)
    return {module: promised_module(disk, graph, module) for module in modules}


def _write_snapshot(folder: Path, disk: Modules, package: str) -> None:
    """Write the texts of a package's modules; of launcher those that decide results, and all names."""
    with_text = {API_MODULE, *RESULT_MODULES} if package == LAUNCHER else None
    modules = {
        module: (
            disk.is_package(module),
            disk.text(module) if with_text is None or module in with_text else None,
        )
        for module in sorted((package, *disk.modules_below(package)))
    }
    text = json.dumps({"schema": SCHEMA, "modules": modules}, separators=(",", ":"), default=dict)
    packer = zlib.compressobj(9, wbits=_GZIP)  # writes no time, so equal texts give equal files
    (folder / SNAPSHOT_FILE).write_bytes(packer.compress(text.encode()) + packer.flush())


def _write_promise(
    folder: Path, modules: Mapping[str, PromisedModule], changed: Mapping[str, str]
) -> None:
    """Write a promise, one line per module; `changed` contains marks of definitions with other results."""
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(_encode_promised(module))}"
        for name, module in sorted(modules.items())
    )
    head = f'"schema": {SCHEMA},\n"changed": {json.dumps(changed, sort_keys=True)},\n'
    text = f'{{\n{head}"modules": {{\n{lines}\n}}\n}}\n'
    (folder / PROMISE_FILE).write_text(text, encoding="utf-8")


def _encode_promised(module: PromisedModule) -> dict[str, list[str]]:
    always, used = (
        [
            " ".join((element.digest, *element.names))
            for element in module.elements
            if element.optional is optional
        ]
        for optional in (False, True)
    )
    record = {
        "imports": [*module.imports],
        "effects": [*module.effects],
        "always": always,
        "used": used,
    }
    return {key: values for key, values in record.items() if values}


def _decode_promised(record: Mapping[str, Sequence[str]]) -> PromisedModule:
    elements = []
    for key, optional in (("always", False), ("used", True)):
        for line in record.get(key, ()):
            digest, *names = line.split(" ")
            elements.append(PromisedElement(tuple(names), digest, optional))
    imports, effects = (tuple(record.get(key, ())) for key in ("imports", "effects"))
    return PromisedModule(imports, effects, tuple(elements))


def _decode(file: Path, read: Any) -> dict[str, Any]:
    """Return the record of a file.

    Raises:
        UsageError: it is damaged, or of another version.
    """
    try:
        record: dict[str, Any] = read()
        if record["schema"] == SCHEMA and isinstance(record["modules"], dict):
            return record
    except (ValueError, LookupError, TypeError, zlib.error):
        pass
    raise UsageError(
        f"{file} is damaged, or of another version. Restore it, or replace it with `{PROGRAM} "
        f"take {file.parent.name} --replace`."
    )


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
