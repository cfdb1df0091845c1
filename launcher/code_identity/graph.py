"""The modules that some work may need, and the relevant code in them."""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from itertools import accumulate

from launcher.code_identity.links import API_MODULE, LAUNCHER, RESULT_MODULES, Linker, RelevantCode
from launcher.code_identity.modules import Modules, top_package
from launcher.code_identity.text import BELOW, ModuleText


class CodeGraph:
    """Modules and their imports.

    Args:
        modules: all modules that can be needed; they do not change meanwhile.
    """

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._needs = cache(self._needed_modules)
        self.linker: Callable[[frozenset[str]], Linker] = cache(
            lambda own: Linker(own, modules.text, modules.exists, self._absolute)
        )

    def closure(
        self,
        roots: Sequence[str],
        known: frozenset[str] | None = None,
        is_wanted: Callable[[str], bool] = lambda _: True,
    ) -> tuple[str, ...]:
        """Return `roots` and all modules that they need, see `CodeIndex.closure`.

        Args:
            roots: dotted names of modules.
            known: plug-ins that are not among these are left out, see `_is_plug_in`.
            is_wanted: returns whether a module may be in the result.
        """
        own = own_packages(roots)
        named = (each for root in roots for each in (root, *self._modules_below(root)))
        seen = {each: None for each in named if is_wanted(each)}
        waiting = list(seen)
        while waiting:
            needed, below = self._needs(waiting.pop(), own)
            if known is not None:
                beside = known.intersection(below)
                below = tuple(
                    module
                    for module in below
                    if module in known or not self._is_plug_in(module, beside)
                )
            for module in (*needed, *below):
                if module not in seen and is_wanted(module):
                    seen[module] = None
                    waiting.append(module)
        return tuple(sorted(seen))

    def relevant_code(
        self, entry: str, roots: Sequence[str], closure: Collection[str]
    ) -> RelevantCode:
        """Return the relevant code of some work; `closure` contains the modules that it may need."""
        named = {each for root in roots for each in (root, *self._modules_below(root))}
        return self.linker(own_packages(roots)).find_relevant_code(
            closure, entry, sorted(named - {entry.partition(":")[0]})
        )

    def needed_names(self, module: str) -> list[str]:
        """Return the imports of a module that stand for modules of its own package and of the launcher."""
        own = {top_package(module)} - {LAUNCHER}
        names: list[str] = []
        for name in self._modules.imports(module) if own else ():
            absolute = self._absolute(module, name.removesuffix(BELOW))
            if top_package(absolute) == LAUNCHER:
                names += self._launcher_module(absolute)
            elif top_package(absolute) in own and self._modules.exists(absolute):
                names.append(f"{absolute}{BELOW}" if name.endswith(BELOW) else absolute)
        return sorted({*names})

    def _is_plug_in(self, module: str, beside: Collection[str]) -> bool:
        """Return whether a module only adds definitions to those of the modules beside it.

        All its top-level statements bind names; a call, or an assignment to an attribute of another
        module, does not. It also defines no public name that one of the others defines.
        """
        text = self._modules.text(module)
        if text is None or not text.is_read:
            return False
        if not all(element.names for element in text.elements):
            return False
        others = (other for each in beside if (other := self._modules.text(each)) is not None)
        return _public_names(text).isdisjoint(frozenset().union(*map(_public_names, others)))

    def _needed_modules(
        self, module: str, own: Collection[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the modules that a module needs, including its packages, and those through which it iterates."""
        # modules of the launcher count only if they are named
        if not self._modules.exists(module) or top_package(module) == LAUNCHER:
            return (), ()
        needed = [*accumulate(module.split("."), lambda above, name: f"{above}.{name}")][:-1]
        below: list[str] = []
        for name in self._modules.imports(module):
            absolute = self._absolute(module, name.removesuffix(BELOW))
            if top_package(absolute) == LAUNCHER:
                needed += self._launcher_module(absolute)
            elif top_package(absolute) in own and self._modules.exists(absolute):
                needed.append(absolute)
                below += self._modules_below(absolute) if name.endswith(BELOW) else ()
        return tuple(dict.fromkeys(needed)), tuple(dict.fromkeys(below))

    def _modules_below(self, module: str) -> tuple[str, ...]:
        return (
            tuple(self._modules.modules_below(module)) if self._modules.is_package(module) else ()
        )

    def _launcher_module(self, name: str) -> list[str]:
        """Return the module of the launcher that an imported name comes from, if it decides results."""
        door, _, symbol = name.rpartition(".")
        is_from_api = door == API_MODULE and self._modules.exists(API_MODULE)
        behind = self._modules.imports(API_MODULE) if is_from_api else ()
        homes = {module.rpartition(".")[0] for module in behind if module.endswith(f".{symbol}")}
        return sorted(RESULT_MODULES & {name, door, *homes})

    def _absolute(self, module: str, name: str) -> str:
        """Return an imported name as an absolute one; '' is the package of the module."""
        if name and not name.startswith("."):
            return name
        rest = name.lstrip(".")
        level = max(1, len(name) - len(rest))
        package = module if self._modules.is_package(module) else module.rpartition(".")[0]
        above = package.split(".")
        above = above[: len(above) - level + 1]
        return ".".join((*above, rest) if rest else above)


def own_packages(roots: Sequence[str]) -> frozenset[str]:
    """Return the packages whose modules count as ours."""
    return frozenset(map(top_package, roots)) - {LAUNCHER}


def _public_names(text: ModuleText) -> frozenset[str]:
    names = (name for element in text.elements for name in element.names)
    return frozenset(name for name in names if not name.startswith("_"))
