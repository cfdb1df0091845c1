"""The code that decides a kind's results: the modules that its work may need, and a digest of their content.

The dependencies of a module are found in its text; nothing is imported. Results are cached by the SHA-256 of the texts.
So a plan parses only the modules that were changed since the previous plan. Results for several modules are
cached by the digests of all of them.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from launcher.code_identity.graph import CodeGraph, own_packages
from launcher.code_identity.links import LAUNCHER, RelevantCode
from launcher.code_identity.modules import ABSENT_MODULE, DiskModules
from launcher.code_identity.promise_comparison import SnapshotComparison
from launcher.code_identity.promises import CodeSnapshot, find_snapshot
from launcher.errors import UsageError
from launcher.system.file_digests import CacheFile

WHOLE_CODE = ""  # in the place of a module: the digest of all that counts, which alone decides
MOST_TEXTS = 2000  # in the caches: about five versions of two plugin packages
MOST_CODES = 400
CACHE_VERSION = 3  # version of the cached records; those of another version are read again
IMPORTS, TEXTS, CODES = f"imports-{CACHE_VERSION}", f"texts-{CACHE_VERSION}", "codes"


class _CachedCode(NamedTuple):
    """The digests of some code, as they are cached."""

    whole: str
    modules: list[str]  # digests of the modules of the closure
    asked: dict[str, str]  # other modules on which this depends → SHA-256
    changes: dict[str, list[str]]  # digest of a snapshot's code → names of the later changes


class CodeIndex:
    """The modules that can be imported, and their code; each is read once, at its first use.

    Args:
        path: a file that stores the content of texts for later processes, next to two other files.
            If None, nothing is stored.
    """

    def __init__(self, path: Path | None = None) -> None:
        texts = path and path.with_name(f"{path.stem}-elements.json")
        definitions = path and path.with_name(f"{path.stem}-definitions.json")
        self._cache = CacheFile(path, {IMPORTS: MOST_TEXTS, CODES: MOST_CODES})
        # needed only after a change
        self._text_cache = CacheFile(texts, {TEXTS: MOST_TEXTS})
        self._definition_cache = CacheFile(definitions, {"definitions": MOST_TEXTS})
        self.modules = DiskModules(self._cache, IMPORTS, self._text_cache, TEXTS)
        self.graph = CodeGraph(self.modules)
        self.file = self.modules.file
        self.opaque_modules = self.modules.opaque_modules
        self._closure = cache(self.graph.closure)
        self.snapshot = cache(self._find_snapshot)
        self._comparison = cache(self._compare_with)
        # digest of present code → digest of a snapshot's code → names of the later changes
        self._changes: dict[str, dict[str, list[str]]] = {}

    def code(
        self, entry: str, roots: Sequence[str], known: frozenset[str] | None = None
    ) -> dict[str, str]:
        """Return a digest of the code that does some work, under `WHOLE_CODE`, and one digest per module.

        The first does not depend on the location of the code, on the order of definitions, or on definitions
        that nothing uses. If it differs, the others show which modules were changed. If a snapshot has the code
        and all of it is as promised, the first is the digest of the snapshot's code. See `promises`.

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
        name = self._cache_key(entry, roots, known, closure)
        kept = self._cache.get(CODES, name, _read_cached_code)
        if kept is None or any(
            self.modules.content_digest(module) != key for module, key in kept.asked.items()
        ):
            kept = self._read_code(entry, roots, known, closure)
            self._cache.add(CODES, name, kept)
        self._changes[kept.whole] = kept.changes
        return {WHOLE_CODE: kept.whole, **dict(zip(closure, kept.modules, strict=True))}

    def _cache_key(
        self,
        entry: str,
        roots: Sequence[str],
        known: frozenset[str] | None,
        closure: Sequence[str],
    ) -> str:
        snapshots = [self.snapshot(package) for package in self._packages(roots)]
        parts = [
            *(CACHE_VERSION, entry, roots, closure),
            [self.modules.content_digest(module) for module in closure],
            [None if each is None else each.key for each in snapshots],
            sorted(known) if known is not None and any(snapshots) else None,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _read_code(
        self,
        entry: str,
        roots: Sequence[str],
        known: frozenset[str] | None,
        closure: Sequence[str],
    ) -> _CachedCode:
        relevant = self.relevant_code(entry, roots, known)
        for module, digest in relevant.modules.items():
            self._definition_cache.add("definitions", digest, relevant.definitions[module])
        comparison = self._comparison(self._packages(roots))
        old = None
        if comparison is not None:
            old = comparison.compare(entry, roots, known, closure, relevant)
        consulted = relevant.consulted if old is None else relevant.consulted | old.consulted
        return _CachedCode(
            whole=old.digest if old is not None and old.is_promised else relevant.digest,
            modules=[relevant.modules.get(module, ABSENT_MODULE) for module in closure],
            asked={module: self.modules.content_digest(module) for module in sorted(consulted)},
            changes={} if old is None else old.changes,
        )

    def relevant_code(
        self, entry: str, roots: Sequence[str], known: frozenset[str] | None = None
    ) -> RelevantCode:
        """Return the relevant present code of some work; arguments are those of `code`."""
        return self.graph.relevant_code(entry, roots, self.closure(roots, known))

    def words(self, roots: Sequence[str], known: frozenset[str] | None = None) -> frozenset[str]:
        """Return the names and words in the code of some work; arguments are those of `code`."""
        return self.graph.linker(own_packages(roots)).words(self.closure(roots, known))

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

    def changes_since_snapshot(self, before: str, now: str) -> tuple[str, ...]:
        """Return the full names of the definitions that have changed since a snapshot.

        Empty if `before` is not a digest of the snapshot's code, or `now` not that of the same work's present code.
        """
        return tuple(self._changes.get(now, {}).get(before, ()))

    def closure(self, roots: Sequence[str], known: frozenset[str] | None = None) -> tuple[str, ...]:
        """Return `roots` and all modules that they need, directly or not, in the roots' own packages.

        A module needs the modules that it imports, anywhere except under `if TYPE_CHECKING`. It also needs
        the modules that a string in it names, and the packages through whose modules it iterates. A
        root that is a package means all modules below it. Modules of the launcher are included only if
        they decide results, see `RESULT_MODULES`.

        Args:
            roots: dotted names of modules.
            known: if the code iterates through the modules of a package, plug-ins that are not among these are
                left out: see `CodeGraph`. Promised modules always count. If None, nothing is left out.
        """
        if known is not None:
            for package in own_packages(roots):
                if (snapshot := self.snapshot(package)) is not None:
                    known = known.union(snapshot.promise)
        return self._closure(tuple(roots), known)

    def save(self) -> None:
        """Store the caches for the next process, if they can be written."""
        self._cache.save()
        self._text_cache.save()
        self._definition_cache.save()

    def _packages(self, roots: Sequence[str]) -> tuple[str, ...]:
        """Return the packages whose snapshots count for some work."""
        return (LAUNCHER, *sorted(own_packages(roots)))

    def _find_snapshot(self, package: str) -> CodeSnapshot | None:
        return find_snapshot(self.modules.places(package))

    def _compare_with(self, packages: tuple[str, ...]) -> SnapshotComparison | None:
        found = {
            package: snapshot
            for package in packages
            if (snapshot := self.snapshot(package)) is not None
        }
        return SnapshotComparison(self.modules, self.graph, found) if found else None


@lru_cache(maxsize=16)  # imported code does not change while a process runs
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


def _read_cached_code(value: Any) -> _CachedCode:
    whole, modules, asked, changes = value
    return _CachedCode(str(whole), [str(each) for each in modules], dict(asked), dict(changes))


def _read_cached_definitions(value: Any) -> frozenset[tuple[str, str]]:
    return frozenset((str(name), str(digest)) for name, digest in value)
