"""The code that decides a kind's results: which modules its work may need, and a digest of what is in them.

What a module needs is read from its text; nothing is imported. Texts that were read before are known by
their SHA-256, so that a plan parses only what was changed since the one before it, and what was put
together of them is known by their hashes.
"""

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import platformdirs

from launcher.errors import UsageError
from launcher.system.code_elements import BELOW, Element, ModuleText, opaque, read_text
from launcher.system.code_links import DECIDING, DOOR, LAUNCHER, Counted, Linker
from launcher.system.files import write_atomic

ABSENT = "absent"  # the digest of a module that is not there
WHOLE = ""  # in the place of a module: the digest of all that counts, which alone decides
SCHEMA = 3  # of the caches
MOST_TEXTS = 2000  # in the caches: those of about five versions of two laboratories
MOST_CODES = 400
_COMPILED = (*importlib.machinery.EXTENSION_SUFFIXES, ".pyc")
_SUFFIXES = (".py", *_COMPILED)  # of the files of modules


class CodeIndex:
    """The modules that can be imported, and their code, each as it is when it is first asked for.

    Args:
        cache: a file that keeps what texts say from one process to the next, with another one beside it;
            None: nothing is kept.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._kept = _Kept(cache)
        self._packages: dict[str, tuple[Path, ...]] = {}  # top-level package → its folders
        self._folders: dict[str, frozenset[str]] = {}  # folder → names in it
        self._files: dict[str, Path | None] = {}
        self._keys: dict[Path, str] = {}  # file → SHA-256 of its content
        self._contents: dict[str, bytes] = {}  # of texts that nobody has read before
        self._texts: dict[str, ModuleText | None] = {}
        self._needs: dict[tuple[str, frozenset[str]], tuple[str, ...]] = {}
        self._closures: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._linkers: dict[frozenset[str], Linker] = {}
        self.unread: dict[str, Path] = {}  # modules of closures that are known by their bytes alone

    def code(self, entry: str, roots: Sequence[str]) -> dict[str, str]:
        """Return a digest of the code that does some work, under `WHOLE`; and one of each module.

        The first does not depend on where the code lies, on the order of definitions, and on definitions
        that nothing uses. The others say which modules were changed where it is another.

        Args:
            entry: "module:function" that does the work.
            roots: its module, and those that are imported by names that no text tells; none: no code of
                ours does the work.
        """
        if not roots:
            return {}
        closure = self.closure(roots)
        keys = [self._key(module) for module in closure]
        name = hashlib.sha256(json.dumps([entry, roots, closure, keys]).encode()).hexdigest()
        known = self._kept.codes.get(name)
        if known is None or any(self._key(module) != key for module, key in known[2].items()):
            counted = self.counted(entry, roots)
            digests = [counted.modules.get(module, ABSENT) for module in closure]
            asked = {module: self._key(module) for module in sorted(counted.asked)}
            known = self._kept.codes[name] = (counted.digest, digests, asked)
        return {WHOLE: known[0], **dict(zip(closure, known[1], strict=True))}

    def counted(self, entry: str, roots: Sequence[str]) -> Counted:
        """Return what counts of the code that does some work; arguments are those of `code`."""
        own = frozenset(map(_top, roots)) - {LAUNCHER}
        if own not in self._linkers:
            self._linkers[own] = Linker(
                own, self._text, lambda name: self.file(name) is not None, self._absolute
            )
        named = {*roots, *(module for root in roots for module in self._below(root))}
        return self._linkers[own].count(
            self.closure(roots), entry, sorted(named - {entry.partition(":")[0]})
        )

    def closure(self, roots: Sequence[str]) -> tuple[str, ...]:
        """Return `roots` and all that they need, directly or not, in the roots' own packages.

        A module needs what it imports, wherever the import stands but for those under
        `if TYPE_CHECKING`, what a string in it names, and the packages through whose modules it goes. A
        root that is a package stands for all modules below it. Of the launcher only what decides
        results is counted, see `DECIDING`.

        Args:
            roots: dotted names of modules.
        """
        roots = tuple(roots)
        if roots not in self._closures:
            own = frozenset(map(_top, roots)) - {LAUNCHER}
            seen = dict.fromkeys(module for root in roots for module in (root, *self._below(root)))
            waiting = list(seen)
            while waiting:
                for module in self._imports(waiting.pop(), own):
                    if module not in seen:
                        seen[module] = None
                        waiting.append(module)
            self._closures[roots] = tuple(sorted(seen))
        return self._closures[roots]

    def file(self, module: str) -> Path | None:
        """Return the file of a module, of a package its `__init__.py`; None where there is none."""
        if module not in self._files:
            self._files[module] = self._searched(module)
        return self._files[module]

    def save(self) -> None:
        """Keep what was read for the next process, where it can be kept."""
        self._kept.save()

    def _imports(self, module: str, own: frozenset[str]) -> tuple[str, ...]:
        """Return the modules that come with one: its packages, and what it needs."""
        if (module, own) not in self._needs:
            self._needs[module, own] = tuple(dict.fromkeys(self._needed(module, own)))
        return self._needs[module, own]

    def _needed(self, module: str, own: Collection[str]) -> Iterator[str]:
        file = self.file(module)
        if file is None or _top(module) == LAUNCHER:  # of the launcher only what is named counts
            return
        yield from _packages_of(module)
        imports = self._imports_of(file)
        if imports is None:
            self.unread[module] = file
        for name in imports or ():
            absolute = self._absolute(module, name.removesuffix(BELOW))
            if _top(absolute) == LAUNCHER:
                yield from self._of_launcher(absolute)
            elif _top(absolute) in own and self.file(absolute) is not None:
                yield absolute
                if name.endswith(BELOW):
                    yield from self._below(absolute)

    def _of_launcher(self, name: str) -> Iterator[str]:
        """Yield the module of the launcher that an imported name comes from, if it decides results."""
        door, _, symbol = name.rpartition(".")
        file = self.file(DOOR) if door == DOOR else None
        behind = () if file is None else self._imports_of(file) or ()
        homes = {module.rpartition(".")[0] for module in behind if module.endswith(f".{symbol}")}
        yield from sorted(DECIDING & {name, door, *homes})

    def _below(self, module: str) -> Iterator[str]:
        """Yield all modules below a package."""
        file = self.file(module)
        if file is None or not file.name.startswith("__init__."):
            return
        for path in sorted(file.parent.rglob("*")):
            name = _module_name(path)
            parts = (*path.relative_to(file.parent).parts[:-1], name)
            if name and all(part.isidentifier() for part in parts):
                below = ".".join((module, *(parts[:-1] if name == "__init__" else parts)))
                if below != module and self.file(below) is not None:
                    yield below

    def _searched(self, module: str) -> Path | None:
        top, *rest = module.split(".")
        if not top:
            return None
        if top not in self._packages:
            self._packages[top] = _places(top)
        for place in self._packages[top]:
            if not place.is_dir():  # a module without a package
                return None if rest else place
            folder = "/".join((str(place), *rest[:-1]))
            found = self._listed(f"{folder}/{rest[-1]}" if rest else folder, "__init__")
            if (file := found or (rest and self._listed(folder, rest[-1]))) and file.is_file():
                return file
        return None

    def _listed(self, folder: str, name: str) -> Path | None:
        """Return the file of a folder that holds a module of this name; source text comes first."""
        if folder not in self._folders:
            above, _, last = folder.rpartition("/")
            is_there = above not in self._folders or last in self._folders[above]
            self._folders[folder] = _names_in(folder) if is_there else frozenset()
        names = self._folders[folder]
        suffix = next((each for each in _SUFFIXES if f"{name}{each}" in names), None)
        return None if suffix is None else Path(folder, f"{name}{suffix}")

    def _absolute(self, module: str, name: str) -> str:
        """Return an imported name as an absolute one; '' is the package of the module."""
        if name and not name.startswith("."):
            return name
        file = self.file(module)
        is_package = file is not None and file.name.startswith("__init__.")
        return _absolute(name or ".", module if is_package else module.rpartition(".")[0])

    def _key(self, module: str) -> str:
        """Return the SHA-256 of a module's content; `ABSENT` where it has none."""
        file = self.file(module)
        return ABSENT if file is None else self._key_of(file)

    def _key_of(self, file: Path) -> str:
        if file not in self._keys:
            content = file.read_bytes()
            key = self._keys[file] = hashlib.sha256(content).hexdigest()
            self._contents[key] = content
        return self._keys[file]

    def _imports_of(self, file: Path) -> tuple[str, ...] | None:
        """Return what a file imports; None where only its bytes are known."""
        key = self._key_of(file)
        if key not in self._kept.imports:
            text = self._read(file)
            self._kept.imports[key] = text.imports if text.is_read else None
        return self._kept.imports[key]

    def _text(self, module: str) -> ModuleText | None:
        """Return what the text of a module says; None where there is no such module."""
        if module not in self._texts:
            file = self.file(module)
            self._texts[module] = None if file is None else self._read(file)
        return self._texts[module]

    def _read(self, file: Path) -> ModuleText:
        key = self._key_of(file)
        if (text := self._kept.text(key)) is None:
            content = self._contents[key]
            text = opaque(content) if file.name.endswith(_COMPILED) else read_text(content)
            self._kept.add_text(key, text)
        return text


class _Kept:
    """What earlier processes read, in two files: the second is needed only after a change."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        record = _record(path)
        self.imports: dict[str, tuple[str, ...] | None] = _restored(record, "imports", _imports)
        self.codes: dict[str, tuple[str, list[str], dict[str, str]]] = _restored(
            record, "codes", _code
        )
        self._sizes = len(self.imports), len(self.codes)
        self._texts: dict[str, Any] | None = None
        self._new_texts: dict[str, ModuleText] = {}

    @property
    def _text_path(self) -> Path | None:
        return self._path and self._path.with_name(f"{self._path.stem}-elements.json")

    def text(self, key: str) -> ModuleText | None:
        """Return what the text of this SHA-256 says, where it is known."""
        if key in self._new_texts:
            return self._new_texts[key]
        if self._texts is None:
            self._texts = _restored(_record(self._text_path), "texts", list)
        try:
            return _text(self._texts[key])
        except (LookupError, ValueError, TypeError):  # not known, or damaged
            return None

    def add_text(self, key: str, text: ModuleText) -> None:
        """Take in what a text says."""
        self._new_texts[key] = text

    def save(self) -> None:
        """Write what is new, where it can be written."""
        if self._path is None or self._text_path is None:
            return
        with contextlib.suppress(OSError):  # a cache: without it the next plan takes longer
            if self._sizes != (len(self.imports), len(self.codes)):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                imports, codes = _newest(self.imports, MOST_TEXTS), _newest(self.codes, MOST_CODES)
                _write(self._path, imports=imports, codes=codes)
            if self._new_texts:
                new = {key: _text_record(text) for key, text in self._new_texts.items()}
                texts = _newest({**(self._texts or {}), **new}, MOST_TEXTS)
                _write(self._text_path, texts=texts)
        self._sizes = len(self.imports), len(self.codes)


@lru_cache(maxsize=16)  # what is imported does not change while a process runs
def code_digest(entry: str, *named: str) -> str:
    """Return a digest of the code that does some work, as plans identify it: see `CodeIndex.code`.

    Args:
        entry: "module:function" that does it.
        named: modules, and packages with all below them, that are imported by a name.

    Raises:
        UsageError: one of them is not there, so that nothing would be identified.
    """
    index = CodeIndex(user_cache())
    roots = (entry.partition(":")[0], *named)
    for root in roots:
        if index.file(root) is None:
            raise UsageError(f"no module {root}, whose code should be identified")
    code = index.code(entry, roots)
    index.save()
    return code[WHOLE]


def user_cache() -> Path | None:
    """Return where a person's cache of read texts is kept; None for one without a home folder."""
    folder = platformdirs.user_cache_path("launcher", appauthor=False)
    return folder / "code.json" if folder.is_absolute() else None


def _record(path: Path | None) -> Any:
    """Return what an earlier process wrote; nothing where the file is absent or not ours."""
    try:
        content = json.loads(path.read_bytes()) if path is not None else {}
        return content if content["schema"] == SCHEMA else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _restored(record: Any, name: str, read: Any) -> dict[str, Any]:
    """Return a part of a cache; nothing where it is damaged."""
    try:
        return {str(key): read(value) for key, value in record.get(name, {}).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _imports(value: Any) -> tuple[str, ...] | None:
    return None if value is None else tuple(map(str, value))


def _code(value: Any) -> tuple[str, list[str], dict[str, str]]:
    digest, digests, asked = value
    return str(digest), [str(each) for each in digests], dict(asked)


def _text(record: Sequence[Any]) -> ModuleText:
    """Return a text as `_text_record` gave it."""
    imports, elements, *others = record
    return ModuleText._make((tuple(imports), tuple(map(Element._make, elements)), *others))


def _text_record(text: ModuleText) -> list[Any]:
    return [dict(part) if isinstance(part, Mapping) else part for part in text]


def _newest(known: Mapping[str, Any], most: int) -> dict[str, Any]:
    return dict(list(known.items())[-most:])


def _write(path: Path, **parts: Any) -> None:
    text = json.dumps({"schema": SCHEMA, **parts}, separators=(",", ":"))
    write_atomic(path, text, durable=False)


def _places(top: str) -> tuple[Path, ...]:
    """Return the folders of a top-level package, or the file of a module."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ()
    if spec is None:
        return ()
    if spec.submodule_search_locations is not None:
        return tuple(map(Path, spec.submodule_search_locations))
    origin = Path(spec.origin or "")
    return (origin,) if origin.name.endswith(_SUFFIXES) else ()


def _names_in(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208  # a path of each would cost more than all else
    except OSError:
        return frozenset()


def _module_name(path: Path) -> str:
    """Return the name of the module that a file holds, without its packages; '' of none."""
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return ""


def _top(module: str) -> str:
    return module.partition(".")[0]


def _packages_of(module: str) -> Iterator[str]:
    """Yield the packages that importing a module imports first, the outermost first."""
    parts = module.split(".")
    for end in range(1, len(parts)):
        yield ".".join(parts[:end])


def _absolute(name: str, package: str) -> str:
    """Return an imported name as an absolute one."""
    rest = name.lstrip(".")
    level = len(name) - len(rest)
    if not level:
        return name
    above = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join((*above, rest) if rest else above)
