"""The modules that some work may need, and the relevant code in them."""

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import NamedTuple

from launcher.provenance.code_identity.modules import DiskModules, top_package
from launcher.provenance.code_identity.text import BELOW, LAUNCHER, ModuleText

API_MODULE = "launcher.api"
# modules of the launcher that decide results: which images and models an ID names
RESULT_MODULES = frozenset({"launcher.ids"})
# names with which code reads docstrings
_DOCUMENTATION = frozenset({"__doc__", "getdoc", "get_docstring", "getsource", "getsourcelines"})


class RelevantCode(NamedTuple):
    """The relevant elements of some modules."""

    # module → names and digests of its relevant elements; "" for statements that bind no name
    definitions: dict[str, list[tuple[str, str]]]
    types: list[str]  # digests of definitions that are imported for type checkers alone
    consulted: frozenset[str]  # further modules on which this depends, whether they exist or not


class CodeGraph:
    """Modules and their imports.

    Args:
        modules: all modules that can be needed; they do not change meanwhile.
    """

    def __init__(self, modules: DiskModules) -> None:
        self._modules = modules
        self._needs = cache(self._needed_modules)
        self._names_of = cache(self._bound_names)
        self._looked_up = cache(self._modules_as_values)

    def closure(
        self, roots: Sequence[str], known_files: frozenset[str] | None = None
    ) -> tuple[str, ...]:
        """Return `roots` and all modules that they need, see `CodeIndex.closure`."""
        own = own_packages(roots)
        seen = dict.fromkeys(self._with_modules_below(roots))
        waiting = list(seen)
        while waiting:
            needed, below = self._needs(waiting.pop(), own)
            if known_files is not None:
                beside = known_files.intersection(below)
                below = tuple(
                    module
                    for module in below
                    if module in known_files or not self._is_plug_in(module, beside)
                )
            for module in (*needed, *below):
                if module not in seen:
                    seen[module] = None
                    waiting.append(module)
        return tuple(sorted(seen))

    def words(self, closure: Sequence[str]) -> frozenset[str]:
        """Return the names and words in some modules."""
        return frozenset().union(*(text.words.split() for text in self._texts(closure).values()))

    def relevant_code(
        self, entry: str, roots: Sequence[str], closure: Sequence[str]
    ) -> RelevantCode:
        """Return the relevant code of some work.

        Args:
            entry: "module:function" that does the work; empty if there is none.
            roots: the module of the entry, and those that are imported by names that no text contains.
            closure: all modules that the work may need.
        """
        own, texts = own_packages(roots), self._texts(closure)
        home, _, function = entry.partition(":")
        words = self.words(closure).union(function.split("."))
        is_documented = not words.isdisjoint(_DOCUMENTATION)
        whole = self._whole_modules(texts, own)
        named = {*self._with_modules_below(roots)} - {home}
        whole |= {module for module in named if module in texts and not texts[module].registers}

        def digests(module: str, text: ModuleText) -> list[tuple[str, str]]:
            return [
                (next(iter(element.names), ""), digest)
                for element in text.elements
                if (digest := element.documented if is_documented else element.digest)
                and not (
                    element.optional and module not in whole and words.isdisjoint(element.names)
                )
            ]

        types, consulted = list[str](), set[str]()
        for text in texts.values():
            for target in {target: None for name, target in text.typed if name in words}:
                for module, name in self._places(target, own):
                    consulted.add(module)
                    if name is not None and module not in texts:
                        types += self._digests_of_name(module, name)
        return RelevantCode(
            {module: digests(module, text) for module, text in texts.items()},
            types,
            frozenset(consulted).difference(closure),
        )

    def _texts(self, modules: Sequence[str]) -> dict[str, ModuleText]:
        found = ((module, self._modules.text(module)) for module in modules)
        return {module: text for module, text in found if text is not None}

    def _whole_modules(self, texts: dict[str, ModuleText], own_modules: frozenset[str]) -> set[str]:
        """Return the modules of which any name may be looked up."""
        iterated = {
            name.removesuffix(BELOW)
            for text in texts.values()
            for name in text.imports
            if name.endswith(BELOW)
        }
        return set(RESULT_MODULES).union(
            *(self._looked_up(module, own_modules) for module in texts),
            (module for module, text in texts.items() if text.is_whole),
            (module for module in texts if not iterated.isdisjoint(_prefixes(module))),
        )

    def _modules_as_values(self, module: str, own_modules: frozenset[str]) -> frozenset[str]:
        """Return the modules that the text of a module uses other than for a name that they bind."""
        text = self._modules.text(module)
        return frozenset(
            place
            for value in (() if text is None else text.values)
            for place, name in self._places(value, own_modules)
            if name == ""
        )

    def _places(self, name: str, own_names: Collection[str]) -> Iterator[tuple[str, str | None]]:
        """Yield the modules that may bind a dotted name, and the name there.

        The name is empty if the module itself may be meant, and None if the module is only on the way.
        """
        waiting = [name]
        for dotted in waiting:  # grows with the imports of names
            for module in _prefixes(dotted) if top_package(dotted) in own_names else ():
                text, rest = self._modules.text(module), dotted[len(module) + 1 :]
                first = rest.partition(".")[0]
                if text is None:
                    yield module, None
                elif not first or first.startswith("__"):
                    yield module, ""
                elif first in self._names_of(module):
                    yield module, first
                    bound = [
                        target for each, target in (*text.bindings, *text.typed) if each == first
                    ]
                    more = [f"{target}{rest.removeprefix(first)}" for target in bound]
                    waiting += [each for each in more if each not in waiting]
                elif text.stars:
                    more = [f"{star}.{rest}" for star in text.stars]
                    waiting += [each for each in more if each not in waiting]
                    yield module, None
                else:
                    yield module, None if self._modules.exists(f"{module}.{first}") else ""

    def _bound_names(self, module: str) -> frozenset[str]:
        text = self._modules.text(module)
        elements = () if text is None else text.elements
        return frozenset(name for element in elements for name in element.names)

    def _digests_of_name(self, module: str, name: str) -> list[str]:
        text = self._modules.text(module)
        return [
            element.digest
            for element in (() if text is None else text.elements)
            if not name or name in element.names
        ]

    def _is_plug_in(self, module: str, other_names: Collection[str]) -> bool:
        """Return whether a module only adds definitions to those of the modules beside it.

        All its top-level statements bind names; a call, or an assignment to an attribute of another
        module, does not. It also defines no public name that one of the others defines.
        """
        text = self._modules.text(module)
        if text is None or not text.is_read:
            return False
        if not all(element.names or not element.digest for element in text.elements):
            return False
        others = self._texts([*other_names]).values()
        return _public_names(text).isdisjoint(frozenset().union(*map(_public_names, others)))

    def _needed_modules(
        self, module: str, own_names: Collection[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the modules that a module needs, including its packages, and those through which it iterates."""
        # modules of the launcher count only if they are named
        if not self._modules.exists(module) or top_package(module) == LAUNCHER:
            return (), ()
        needed = _prefixes(module)[:-1]
        below: list[str] = []
        for name in self._modules.imports(module):
            imported = name.removesuffix(BELOW)
            if top_package(imported) == LAUNCHER:
                needed += self._launcher_module(imported)
            elif top_package(imported) in own_names and self._modules.exists(imported):
                needed.append(imported)
                below += self._modules.modules_below(imported) if name.endswith(BELOW) else ()
        return tuple(dict.fromkeys(needed)), tuple(dict.fromkeys(below))

    def _with_modules_below(self, modules: Sequence[str]) -> Iterator[str]:
        for module in modules:
            yield module
            yield from self._modules.modules_below(module)

    def _launcher_module(self, name: str) -> list[str]:
        """Return the module of the launcher that an imported name comes from, if it decides results."""
        door, _, symbol = name.rpartition(".")
        is_from_api = door == API_MODULE and self._modules.exists(API_MODULE)
        behind = self._modules.imports(API_MODULE) if is_from_api else ()
        homes = {module.rpartition(".")[0] for module in behind if module.endswith(f".{symbol}")}
        return sorted(RESULT_MODULES & {name, door, *homes})


def own_packages(roots: Sequence[str]) -> frozenset[str]:
    """Return the packages whose modules count as ours."""
    return frozenset(map(top_package, roots)) - {LAUNCHER}


def _prefixes(name: str) -> list[str]:
    """Return the packages of a dotted name, the outermost first, and the name."""
    return [*accumulate(name.split("."), lambda parent, part: f"{parent}.{part}")]


def _public_names(text: ModuleText) -> frozenset[str]:
    names = {name for element in text.elements for name in element.names if name[0] != "_"}
    return frozenset(names.difference(name for name, _ in text.bindings))
