"""The code that decides a kind's results: the modules that its work may need, and a digest of their content.

The dependencies of a module are found in its text; nothing is imported. Results are cached by the SHA-256 of the texts.
So a plan parses only the modules that were changed since the previous plan. Results for several modules are
cached by the digests of all of them.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from launcher.provenance.code_identity.graph import CodeGraph
from launcher.provenance.code_identity.modules import ABSENT_MODULE, DiskModules
from launcher.provenance.code_identity.text import digest_of
from launcher.provenance.file_digests import CacheFile
from launcher.system.errors import UsageError

WHOLE_CODE = ""  # in the place of a module: the digest of all that counts, which alone decides
MOST_TEXTS = 2000  # in the caches: about five versions of two plugin packages
MOST_CODES = 400
SHORT_DIGEST = 8  # characters of a module's digest, by which changes are named and not decided
CACHE_VERSION = 4  # version of the cached records; those of another version are read again
IMPORTS, TEXTS, CODES = f"imports-{CACHE_VERSION}", f"texts-{CACHE_VERSION}", "codes"
DEFINITIONS = "definitions"


class _CachedCode(NamedTuple):
    """The digests of some code, as they are cached."""

    whole: str
    modules: list[str]  # digests of the modules of the closure
    consulted: dict[str, str]  # further modules on which this depends → SHA-256


class CodeIndex:
    """The modules that can be imported, and their code; each is read once, at its first use.

    Args:
        path: a file that stores imports and digests for later processes, next to one with the content of texts.
            If None, nothing is stored.
    """

    def __init__(self, path: Path | None = None) -> None:
        texts = path and path.with_name(f"{path.stem}-elements.json")
        self._cache = CacheFile(path, {IMPORTS: MOST_TEXTS, CODES: MOST_CODES})
        # needed only after a change
        self._text_cache = CacheFile(texts, {TEXTS: MOST_TEXTS, DEFINITIONS: MOST_TEXTS})
        self._modules = DiskModules(self._cache, IMPORTS, self._text_cache, TEXTS)
        self._graph = CodeGraph(self._modules)
        self._closure = cache(self._graph.closure)
        self.file = self._modules.file
        self.opaque_modules = self._modules.opaque_modules
        self.relevant_code = self._graph.relevant_code

    def code(
        self, entry: str, roots: Sequence[str], known_files: frozenset[str] | None = None
    ) -> dict[str, str]:
        """Return a digest of the code that does some work, under `WHOLE_CODE`, and one digest per module.

        The first does not depend on the folder of the code or on definitions that nothing uses. If it differs, the
        others show which modules were changed.

        Args:
            entry: "module:function" that does the work.
            roots: its module, and the modules that are imported by names that no text contains. Empty if none of our
                code does the work.
            known_files: modules that existed when the work was done. Plug-ins that were added later are left out, see
                `closure`. If None, nothing is left out.
        """
        if not roots:
            return {}
        closure = self.closure(roots, known_files)
        contents = [self._modules.content_digest(module) for module in closure]
        key = digest_of(json.dumps([CACHE_VERSION, entry, roots, closure, contents]))
        kept = self._cache.get(CODES, key, _read_cached_code)
        if kept is None or kept.consulted != self._content_digests(kept.consulted):
            kept = self._read_code(entry, roots, closure)
            self._cache.add(CODES, key, kept)
        return {WHOLE_CODE: kept.whole, **dict(zip(closure, kept.modules, strict=True))}

    def _read_code(self, entry: str, roots: Sequence[str], closure: Sequence[str]) -> _CachedCode:
        relevant = self.relevant_code(entry, roots, closure)
        digests = dict.fromkeys(closure, ABSENT_MODULE)
        for module, definitions in relevant.definitions.items():
            digests[module] = digest_of(*(digest for _, digest in definitions))
            short = [(name, digest[:SHORT_DIGEST]) for name, digest in definitions]
            self._text_cache.add(DEFINITIONS, digests[module][:SHORT_DIGEST], short)
        parts = [f"{module} {digest}" for module, digest in digests.items()]
        return _CachedCode(
            digest_of(entry, *parts, *sorted(relevant.types)),
            [digest[:SHORT_DIGEST] for digest in digests.values()],
            self._content_digests(relevant.consulted),
        )

    def _content_digests(self, modules: Iterable[str]) -> dict[str, str]:
        return {module: self._modules.content_digest(module) for module in sorted(modules)}

    def words(
        self, roots: Sequence[str], known_files: frozenset[str] | None = None
    ) -> frozenset[str]:
        """Return the names and words in the code of some work; arguments are those of `code`."""
        return self._graph.words(self.closure(roots, known_files))

    def changed_definitions(self, old_text: str, now: str) -> tuple[str, ...]:
        """Return the names of the definitions in which two digests of a module differ.

        Empty if one of the digests is not known any more; "" stands for statements that bind no name.
        """
        earlier, later = (
            self._text_cache.get(DEFINITIONS, digest, _read_cached_definitions)
            for digest in (old_text, now)
        )
        if earlier is None or later is None:
            return ()
        pairs = earlier.symmetric_difference(later)
        return tuple(sorted({name for name, _ in pairs}))

    def closure(
        self, roots: Sequence[str], known_files: frozenset[str] | None = None
    ) -> tuple[str, ...]:
        """Return `roots` and all modules that they need, directly or not, in the roots' own packages.

        A module needs the modules that it imports, anywhere except under `if TYPE_CHECKING`. It also needs
        the modules that a string in it names, and those of packages of which it imports modules by computed names. A
        root that is a package means all modules below it. Modules of the launcher are included only if
        they decide results, see `RESULT_MODULES`.

        Args:
            roots: dotted names of modules.
            known_files: if the code imports the modules of a package by computed names, plug-ins that are not among
                these are left out: see `CodeGraph`. If None, nothing is left out.
        """
        return self._closure(tuple(roots), known_files)

    def save(self) -> None:
        """Store the caches for the next process, if they can be written."""
        self._cache.save()
        self._text_cache.save()


@lru_cache(maxsize=16)  # imported code does not change while a process runs
def code_digest(entry: str, *dotted_name: str) -> str:
    """Return the digest of the code of a job, as plans compare it. See `CodeIndex.code`.

    Args:
        entry: "module:function" that does the work.
        dotted_name: modules, and packages with all below them, that are imported by a name.

    Raises:
        UsageError: a module is not there, so that nothing would be identified.
    """
    index = CodeIndex(user_cache_file())
    roots = (entry.partition(":")[0], *dotted_name)
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


def _read_cached_code(value: Any) -> _CachedCode:
    whole, modules, consulted = value
    return _CachedCode(str(whole), [str(each) for each in modules], dict(consulted))


def _read_cached_definitions(value: Any) -> frozenset[tuple[str, str]]:
    return frozenset((str(name), str(digest)) for name, digest in value)
