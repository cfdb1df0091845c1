"""The present code of some work compared with the promises of snapshots, see `promises`.

Three graphs of modules are compared: those on the disk, those that the promises name, and those of the old code.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from launcher.code_identity.graph import CodeGraph, own_packages
from launcher.code_identity.links import LAUNCHER, RelevantCode, digest_of
from launcher.code_identity.modules import Modules, top_package
from launcher.code_identity.promises import (
    ChangedNames,
    CodeSnapshot,
    PromisedModule,
    promised_module,
)
from launcher.code_identity.text import ModuleText


class SnapshotCode(NamedTuple):
    """The code of some work in the snapshot, compared with the present code."""

    digest: str  # digest of the old code and the marks of changed definitions
    is_promised: bool  # the present code is as promised
    changes: dict[str, list[str]]  # digest of earlier code → names of the later changes
    consulted: frozenset[str]  # modules of the disk on which this depends


class _OldModules:
    """The modules of snapshots, and those of the disk that no snapshot has."""

    def __init__(self, disk: Modules, snapshots: Mapping[str, CodeSnapshot]) -> None:
        self._disk, self._snapshots = disk, snapshots
        # returns the snapshot that decides about a module; None if the disk does
        self.snapshot_of = cache(self._find_snapshot)

    def _find_snapshot(self, module: str) -> CodeSnapshot | None:
        found = self._snapshots.get(top_package(module))
        is_known = found is not None and (module in found.modules or module in found.promise)
        return found if is_known else None

    def exists(self, module: str) -> bool:
        found = self.snapshot_of(module)
        return self._disk.exists(module) if found is None else module in found.modules

    def is_package(self, module: str) -> bool:
        found = self.snapshot_of(module)
        if found is None:
            return self._disk.is_package(module)
        return module in found.modules and found.modules[module][0]

    def modules_below(self, module: str) -> Iterator[str]:
        found = self._snapshots.get(top_package(module))
        if found is not None:
            yield from (name for name in found.modules if name.startswith(f"{module}."))
        yield from (
            name for name in self._disk.modules_below(module) if self.snapshot_of(name) is None
        )

    def imports(self, module: str) -> tuple[str, ...]:
        if self.snapshot_of(module) is None:
            return self._disk.imports(module)
        text = self.text(module)
        return () if text is None else tuple(text.imports)

    def text(self, module: str) -> ModuleText | None:
        found = self.snapshot_of(module)
        if found is None:
            return self._disk.text(module)
        return found.text(module) if module in found.modules else None


class _PromisedModules(_OldModules):
    """The modules of promises, without their texts, and those of the disk that no snapshot has."""

    def exists(self, module: str) -> bool:
        promise = self._promise_of(module)
        return self._disk.exists(module) if promise is None else module in promise

    def is_package(self, module: str) -> bool:
        promise = self._promise_of(module)
        if promise is None:
            return self._disk.is_package(module)
        return any(name.startswith(f"{module}.") for name in promise)

    def modules_below(self, module: str) -> Iterator[str]:
        found = self._snapshots.get(top_package(module))
        if found is not None:
            yield from (name for name in found.promise if name.startswith(f"{module}."))
        yield from (
            name for name in self._disk.modules_below(module) if self.snapshot_of(name) is None
        )

    def imports(self, module: str) -> tuple[str, ...]:
        promise = self._promise_of(module)
        return self._disk.imports(module) if promise is None else promise[module].imports

    def _promise_of(self, module: str) -> Mapping[str, PromisedModule] | None:
        """Return the promise that decides about a module; None if the disk does, as for launcher's API."""
        found = self.snapshot_of(module)
        return None if found is None or top_package(module) == LAUNCHER else found.promise


class SnapshotComparison:
    """Compares the present code with promises.

    Args:
        disk: the present modules.
        today: their graph.
        snapshots: package → its snapshot.
    """

    def __init__(
        self, disk: Modules, today: CodeGraph, snapshots: Mapping[str, CodeSnapshot]
    ) -> None:
        self._disk, self._today, self._snapshots = disk, today, snapshots
        self._old_modules = _OldModules(disk, snapshots)
        self._old = CodeGraph(self._old_modules)
        self._promised = CodeGraph(_PromisedModules(disk, snapshots))
        self._all_changes = cache(self._find_changes)

    def compare(
        self,
        entry: str,
        roots: Sequence[str],
        known: frozenset[str] | None,
        closure: Sequence[str],
        relevant: RelevantCode,
    ) -> SnapshotCode | None:
        """Return the code of some work in the snapshots; None if they do not have all of it.

        Args:
            entry: see `CodeIndex.code`.
            roots: see `CodeIndex.code`.
            known: see `CodeIndex.code`.
            closure: the modules that the work may need now.
            relevant: their relevant code.
        """
        ours = {module for module in closure if self._old_modules.snapshot_of(module) is not None}
        others = frozenset(closure) - ours
        if not ours or not all(map(self._old_modules.exists, roots)):
            return None

        def is_wanted(module: str) -> bool:
            return module in others or self._old_modules.snapshot_of(module) is not None

        old_closure = frozenset(
            self._old.closure(roots, self._known_then(known, closure), is_wanted)
        )
        if not others.issubset(old_closure):
            return None
        before, now = (graph.linker(own_packages(roots)) for graph in (self._old, self._today))
        if entry and not before.find_entry(entry).name:
            return None
        # the names in other modules must mean definitions that the old code has, too
        if any(before.plain_digests(each) != now.plain_digests(each) for each in others):
            return None
        # a snapshot can be younger than the old code of another package, and use names which that lacks
        if any(map(before.lacks_names, old_closure.difference(others))):
            return None
        promised_closure = self._promised.closure(roots, None, is_wanted)
        different = ours.symmetric_difference(promised_closure) - others
        both = ours - different
        changes = ChangedNames.join(
            [ChangedNames(frozenset(different), frozenset())]
            + [self._changes_in(module, relevant) for module in both]
        ).decisive()
        old = self._old.relevant_code(entry, roots, old_closure)
        marks = [pair for module in both for pair in self._changed_definitions(module, relevant)]
        digest = old.digest
        if marks:
            digest = digest_of(old.digest, *sorted(mark for _, mark in marks))
        consulted = (each for each in old.consulted if self._old_modules.snapshot_of(each) is None)
        return SnapshotCode(
            digest,
            not changes,
            {digest: sorted(changes)}
            | {old.digest: sorted(changes.union(name for name, _ in marks))},
            frozenset(consulted),
        )

    def _known_then(
        self, known: frozenset[str] | None, closure: Collection[str]
    ) -> frozenset[str] | None:
        """Return which modules of the old code existed for a job for which the modules `known` existed.

        If it needs modules that came after the snapshot, it was done with a later version, and so all did.
        """
        if known is None:
            return None
        then = known
        for snapshot in self._snapshots.values():
            later = known.intersection(snapshot.promise).difference(snapshot.modules)
            if later or known.issuperset(closure):
                then = then.union(snapshot.modules)
        return then

    def _changes_in(self, module: str, relevant: RelevantCode) -> ChangedNames:
        """Return the names of a module's relevant definitions that are not as promised."""
        changes = self._all_changes(module)
        elements = [
            element
            for element in changes.elements
            if relevant.is_relevant(module, element.names, optional=element.optional)
        ]
        return changes._replace(imports=(), elements=tuple(elements)).names(module)

    def _changed_definitions(self, module: str, relevant: RelevantCode) -> list[tuple[str, str]]:
        """Return a module's relevant definitions whose results differ from those of the old code, and their marks."""
        snapshot = self._snapshots[top_package(module)]
        return [
            (full, snapshot.changed[full])
            for element in (snapshot.promise[module].elements if snapshot.changed else ())
            for name in element.names
            if (full := f"{module}.{name}") in snapshot.changed
            and relevant.is_relevant(module, element.names, optional=element.optional)
        ]

    def _find_changes(self, module: str) -> PromisedModule:
        """Return what a module and its promise do not have in common."""
        now = promised_module(self._disk, self._today, module)
        return now.changes_to(self._snapshots[top_package(module)].promise[module])
