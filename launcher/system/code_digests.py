"""The code that decides a kind's results: the modules that its work may need, and a digest of their content.

The dependencies of a module are found in its text; nothing is imported. Results are cached by the SHA-256 of the texts.
So a plan parses only the modules that were changed since the previous plan. Results for several modules are
cached by the digests of all of them.
"""

import hashlib
import importlib.machinery
import importlib.util
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import platformdirs

from launcher.errors import UsageError
from launcher.system.code_links import API_MODULE, LAUNCHER, RESULT_MODULES, Linker, RelevantCode
from launcher.system.code_text import BELOW, Element, ModuleText, opaque_text, read_text
from launcher.system.file_digests import CacheFile
from launcher.system.old_names import MODULE, read_old_names

ABSENT_MODULE = "absent"  # the digest of a module that is not there
WHOLE_CODE = ""  # in the place of a module: the digest of all that counts, which alone decides
MOST_TEXTS = 2000  # in the caches: about five versions of two plugin packages
MOST_CODES = 400
CACHE_VERSION = 2  # version of the cached records; those of another version are read again
IMPORTS, TEXTS = f"imports-{CACHE_VERSION}", f"texts-{CACHE_VERSION}"
_COMPILED = (*importlib.machinery.EXTENSION_SUFFIXES, ".pyc")
_SUFFIXES = (".py", *_COMPILED)  # of the files of modules


class CodeIndex:
    """The modules that can be imported, and their code; each is read once, at its first use.

    Args:
        path: a file that stores the content of texts for later processes, next to two other files.
            If None, nothing is stored.
    """

    def __init__(self, path: Path | None = None) -> None:
        texts = path and path.with_name(f"{path.stem}-elements.json")
        definitions = path and path.with_name(f"{path.stem}-definitions.json")
        self._cache = CacheFile(path, {IMPORTS: MOST_TEXTS, "codes": MOST_CODES})
        # needed only after a change
        self._text_cache = CacheFile(texts, {TEXTS: MOST_TEXTS})
        self._definition_cache = CacheFile(definitions, {"definitions": MOST_TEXTS})
        self._contents: dict[str, bytes] = {}  # by SHA-256
        # modules of closures that are known by their bytes alone
        self.opaque_modules: dict[str, Path] = {}
        self._places = cache(_places)
        self._names_in = cache(_names_in)
        self.file = cache(self._find_file)
        self._key_of = cache(self._read_content_digest)
        self._text = cache(self._find_text)
        self._old_names = cache(self._read_old_names)
        self._imports = cache(self._needed_modules)
        self._closure = cache(self._reachable_modules)
        self._linker = cache(
            lambda own: Linker(
                own, self._text, lambda name: self.file(name) is not None, self._absolute
            )
        )

    def code(
        self, entry: str, roots: Sequence[str], known: frozenset[str] | None = None
    ) -> dict[str, str]:
        """Return a digest of the code that does some work, under `WHOLE_CODE`, and one digest per module.

        The first does not depend on the location of the code, on the order of definitions, or on definitions
        that nothing uses. If it differs, the others show which modules were changed.

        Args:
            entry: "module:function" that does the work.
            roots: its module, and the modules that are imported by names that no text contains. Empty if none of our
                code does the work.
            known: modules that existed when the work was done. Plug-ins that were added later are left out, see
                `closure`. If None, nothing is left out.
        """
        if not roots:
            return {}
        closure = self.closure(roots, known)
        keys = [self._content_digest(module) for module in closure]
        renames = [
            self._content_digest(f"{top}.{MODULE}") for top in sorted({*map(_top_package, closure)})
        ]
        parts = [CACHE_VERSION, entry, roots, closure, keys, renames]
        name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        kept = self._cache.get("codes", name, _read_cached_code)
        if kept is None or any(
            self._content_digest(module) != key for module, key in kept[2].items()
        ):
            counted = self.relevant_code(entry, roots, known)
            digests = [counted.modules.get(module, ABSENT_MODULE) for module in closure]
            asked = {module: self._content_digest(module) for module in sorted(counted.consulted)}
            kept = counted.digest, digests, asked
            self._cache.add("codes", name, kept)
            for module, digest in counted.modules.items():
                self._definition_cache.add("definitions", digest, counted.definitions[module])
        return {WHOLE_CODE: kept[0], **dict(zip(closure, kept[1], strict=True))}

    def relevant_code(
        self, entry: str, roots: Sequence[str], known: frozenset[str] | None = None
    ) -> RelevantCode:
        """Return the relevant code of some work; arguments are those of `code`."""
        named = {*roots, *(module for root in roots for module in self._modules_below(root))}
        return self._linker(_own_packages(roots)).find_relevant_code(
            self.closure(roots, known), entry, sorted(named - {entry.partition(":")[0]})
        )

    def words(self, roots: Sequence[str], known: frozenset[str] | None = None) -> frozenset[str]:
        """Return the names and words in the code of some work; arguments are those of `code`."""
        return self._linker(_own_packages(roots)).words(self.closure(roots, known))

    def changed_definitions(self, before: str, now: str) -> tuple[str, ...]:
        """Return the names of the definitions in which two digests of a module differ.

        Empty if one of the digests is not known any more; "" stands for statements that bind no name.
        """
        earlier, later = (
            self._definition_cache.get("definitions", digest, _read_cached_definitions)
            for digest in (before, now)
        )
        if earlier is None or later is None:
            return ()
        pairs = earlier.symmetric_difference(later)
        return tuple(sorted({name for name, _ in pairs}))

    def closure(self, roots: Sequence[str], known: frozenset[str] | None = None) -> tuple[str, ...]:
        """Return `roots` and all modules that they need, directly or not, in the roots' own packages.

        A module needs the modules that it imports, anywhere except under `if TYPE_CHECKING`. It also needs
        the modules that a string in it names, and the packages through whose modules it iterates. A
        root that is a package means all modules below it. Modules of the launcher are included only if
        they decide results, see `RESULT_MODULES`.

        Args:
            roots: dotted names of modules.
            known: if the code iterates through the modules of a package, plug-ins that are not among these are
                left out: see `_is_plug_in`. If None, nothing is left out.
        """
        return self._closure(tuple(roots), known)

    def _reachable_modules(
        self, roots: tuple[str, ...], known: frozenset[str] | None
    ) -> tuple[str, ...]:
        own = _own_packages(roots)
        seen = dict.fromkeys(
            module for root in roots for module in (root, *self._modules_below(root))
        )
        waiting = list(seen)
        while waiting:
            needed, below = self._imports(waiting.pop(), own)
            if known is not None:
                beside = known.intersection(below)
                below = tuple(
                    module
                    for module in below
                    if module in known or not self._is_plug_in(module, beside)
                )
            for module in (*needed, *below):
                if module not in seen:
                    seen[module] = None
                    waiting.append(module)
        return tuple(sorted(seen))

    def _is_plug_in(self, module: str, beside: Collection[str]) -> bool:
        """Return whether a module only adds definitions to those of the modules beside it.

        All its top-level statements bind names; a call, or an assignment to an attribute of another
        module, does not. It also defines no public name that one of the others defines.
        """
        text = self._text(module)
        if text is None or not text.is_read:
            return False
        if not all(element.names for element in text.elements):
            return False
        others = (other for each in beside if (other := self._text(each)) is not None)
        return _public_names(text).isdisjoint(frozenset().union(*map(_public_names, others)))

    def save(self) -> None:
        """Store the caches for the next process, if they can be written."""
        self._cache.save()
        self._text_cache.save()
        self._definition_cache.save()

    def _needed_modules(
        self, module: str, own: Collection[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the modules that a module needs, including its packages, and those through which it iterates."""
        file = self.file(module)
        if (
            file is None or _top_package(module) == LAUNCHER
        ):  # modules of the launcher count only if they are named
            return (), ()
        imports, is_read = self._imports_of(file, _top_package(module))
        if not is_read:
            self.opaque_modules[module] = file
        needed = [*accumulate(module.split("."), lambda above, name: f"{above}.{name}")][:-1]
        below: list[str] = []
        for name in imports:
            absolute = self._absolute(module, name.removesuffix(BELOW))
            if _top_package(absolute) == LAUNCHER:
                needed += self._launcher_module(absolute)
            elif _top_package(absolute) in own and self.file(absolute) is not None:
                needed.append(absolute)
                below += self._modules_below(absolute) if name.endswith(BELOW) else ()
        return tuple(dict.fromkeys(needed)), tuple(dict.fromkeys(below))

    def _launcher_module(self, name: str) -> list[str]:
        """Return the module of the launcher that an imported name comes from, if it decides results."""
        door, _, symbol = name.rpartition(".")
        file = self.file(API_MODULE) if door == API_MODULE else None
        behind = () if file is None else self._imports_of(file, LAUNCHER)[0]
        homes = {module.rpartition(".")[0] for module in behind if module.endswith(f".{symbol}")}
        return sorted(RESULT_MODULES & {name, door, *homes})

    def _modules_below(self, module: str) -> Iterator[str]:
        """Yield all modules below a package."""
        file = self.file(module)
        if file is None or not _is_package(file):
            return
        for path in sorted(file.parent.rglob("*")):
            name = _module_name(path)
            parts = (*path.relative_to(file.parent).parts[:-1], name)
            if name and all(part.isidentifier() for part in parts):
                below = ".".join((module, *(parts[:-1] if name == "__init__" else parts)))
                is_table = below == f"{_top_package(module)}.{MODULE}"
                if below != module and not is_table and self.file(below) is not None:
                    yield below

    def _find_file(self, module: str) -> Path | None:
        """Return the file of a module, of a package its `__init__.py`; None where there is none."""
        top, *rest = module.split(".")
        for place in self._places(top) if top else ():
            if not place.is_dir():  # a module without a package
                return None if rest else place
            folder = "/".join((str(place), *rest))
            above, _, name = folder.rpartition("/")
            file = None
            if not rest or name in self._names_in(above):
                file = self._find_in_folder(folder, "__init__")
            if file is None and rest:
                file = self._find_in_folder(above, name)
            if file is not None and file.is_file():
                return file
        return None

    def _find_in_folder(self, folder: str, name: str) -> Path | None:
        """Return the file of a folder that holds a module of this name; source text comes first."""
        names = self._names_in(folder)
        suffix = next((each for each in _SUFFIXES if f"{name}{each}" in names), None)
        return None if suffix is None else Path(folder, f"{name}{suffix}")

    def _absolute(self, module: str, name: str) -> str:
        """Return an imported name as an absolute one; '' is the package of the module."""
        if name and not name.startswith("."):
            return name
        file, rest = self.file(module), name.lstrip(".")
        level = max(1, len(name) - len(rest))
        package = module if file is not None and _is_package(file) else module.rpartition(".")[0]
        above = package.split(".")
        above = above[: len(above) - level + 1]
        return ".".join((*above, rest) if rest else above)

    def _content_digest(self, module: str) -> str:
        """Return the SHA-256 of a module's content; `ABSENT_MODULE` where it has none."""
        file = self.file(module)
        return ABSENT_MODULE if file is None else self._key_of(file)

    def _read_content_digest(self, file: Path) -> str:
        content = file.read_bytes()
        key = hashlib.sha256(content).hexdigest()
        self._contents[key] = content
        return key

    def _imports_of(self, file: Path, package: str) -> tuple[tuple[str, ...], bool]:
        """Return the imports of a file, and whether its text could be parsed."""
        key = self._text_key(file, package)
        known = self._cache.get(IMPORTS, key, _read_cached_imports)
        if known is None:
            text = self._read(file, package)
            known = text.imports, text.is_read
            self._cache.add(IMPORTS, key, text.imports if text.is_read else None)
        return known

    def _find_text(self, module: str) -> ModuleText | None:
        """Return the content of a module; None if there is no such module."""
        file = self.file(module)
        return None if file is None else self._read(file, _top_package(module))

    def _read(self, file: Path, package: str) -> ModuleText:
        """Return the text of a file, in which renamed definitions of its package have their old names."""
        key = self._text_key(file, package)
        text = self._text_cache.get(TEXTS, key, _read_cached_text)
        if text is None:
            content = self._contents[self._key_of(file)]
            if file.name.endswith(_COMPILED):
                text = opaque_text(content)
            else:
                text = read_text(content, self._old_names(package)[1])
            self._text_cache.add(TEXTS, key, text)
        return text

    def _text_key(self, file: Path, package: str) -> str:
        """Return the cache key of a file's text: digests of its content and of the table of old names."""
        table, old_names = self._old_names(package)
        return f"{self._key_of(file)}-{table}" if old_names else self._key_of(file)

    def _read_old_names(self, package: str) -> tuple[str, Mapping[str, str]]:
        """Return the digest of a package's table of old names, and the table."""
        file = self.file(f"{package}.{MODULE}")
        if file is None or file.name.endswith(_COMPILED):
            return ABSENT_MODULE, {}
        key = self._key_of(file)
        return key, read_old_names(self._contents[key], file)


@lru_cache(maxsize=16)  # what is imported does not change while a process runs
def code_digest(entry: str, *named: str) -> str:
    """Return the digest of the code of a job, as plans compare it. See `CodeIndex.code`.

    Args:
        entry: "module:function" that does it.
        named: modules, and packages with all below them, that are imported by a name.

    Raises:
        UsageError: one of them is not there, so that nothing would be identified.
    """
    index = CodeIndex(user_cache_file())
    roots = (entry.partition(":")[0], *named)
    for root in roots:
        if index.file(root) is None:
            raise UsageError(f"cannot find the module {root} to identify its code")
    code = index.code(entry, roots)
    index.save()
    return code[WHOLE_CODE]


def user_cache_file() -> Path | None:
    """Return the path of a user's cache of read texts; None for a user without a home folder."""
    folder = platformdirs.user_cache_path("launcher", appauthor=False)
    return folder / "code.json" if folder.is_absolute() else None


def _read_cached_imports(value: Any) -> tuple[tuple[str, ...], bool]:
    return tuple(map(str, value or ())), value is not None


def _read_cached_code(value: Any) -> tuple[str, list[str], dict[str, str]]:
    digest, digests, asked = value
    return str(digest), [str(each) for each in digests], dict(asked)


def _read_cached_definitions(value: Any) -> frozenset[tuple[str, str]]:
    return frozenset((str(name), str(digest)) for name, digest in value)


def _public_names(text: ModuleText) -> frozenset[str]:
    names = (name for element in text.elements for name in element.names)
    return frozenset(name for name in names if not name.startswith("_"))


def _read_cached_text(value: Any) -> ModuleText:
    imports, elements, *others = value
    return ModuleText._make((tuple(imports), tuple(map(Element._make, elements)), *others))


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
    """Return the name of the module that a file holds, without its packages; empty if there is none."""
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return ""


def _top_package(module: str) -> str:
    return module.partition(".")[0]


def _own_packages(roots: Sequence[str]) -> frozenset[str]:
    """Return the packages whose modules count as ours."""
    return frozenset(map(_top_package, roots)) - {LAUNCHER}


def _is_package(file: Path) -> bool:
    return file.name.startswith("__init__.")
