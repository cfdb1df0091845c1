"""The definitions to which names in the code of many modules are bound, and the relevant elements of these modules.

An element's digest is that of its form with each hole filled. A hole is filled by the digest of the definition that its
target resolves to, in any of our modules, or by the full name in another package. So neither the
names of modules nor the order of definitions affect it.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache, partial
from itertools import chain, compress
from typing import NamedTuple

from launcher.code_identity.text import BELOW, IMPORTED, OWN, STAR, TEXT, ModuleText, prefixes

LAUNCHER = "launcher"
API_MODULE = "launcher.api"
# modules of the launcher that decide results: which images and models an ID names
RESULT_MODULES = frozenset({"launcher.ids"})

SHORT_DIGEST = 8  # characters of a module's digest, by which changes are named and not decided
_WORD = re.compile(r"[^\W\d]\w*")


class Binding(NamedTuple):
    """The definition or module that a target resolves to."""

    name: str  # name of a definition in `module`; without a module the full name in another package
    module: str = ""  # one of our modules
    attributes: str = ""  # attributes of it: ".a.b"
    consulted: tuple[str, ...] = ()  # modules that were asked, whether they exist or not

    @property
    def is_module(self) -> bool:
        """Whether a module as a whole is meant."""
        return bool(self.module) and not self.name


class RelevantCode(NamedTuple):
    """The relevant elements of some modules."""

    digest: str
    # module → digest of its relevant elements; their references enter by name only
    modules: dict[str, str]
    left_out: dict[str, tuple[str, ...]]  # module → names of definitions that are not relevant
    consulted: frozenset[str]  # other modules on which this depends
    # module → names and digests of relevant elements; "" for statements that bind no name
    definitions: dict[str, list[tuple[str, str]]]
    words: frozenset[str]  # names and words in the modules
    whole: frozenset[str]  # modules whose elements are all relevant
    begin: Binding  # the definition that does the work

    def is_relevant(self, module: str, names: Collection[str], *, optional: bool) -> bool:
        """Return whether an element counts that binds these names in one of the modules."""
        return not optional or module in self.whole or not self.words.isdisjoint(names)


class _ModuleFacts(NamedTuple):
    """The references of one module to others, and the facts that decide which elements are relevant."""

    words: frozenset[str]  # in the module; of references to our code only the names of definitions
    whole: frozenset[str]  # modules in which any name may be looked up
    iterated: tuple[str, ...]  # packages through whose modules it goes
    effects: tuple[str, ...]  # unused imports from other packages
    consulted: frozenset[str]  # modules on which the resolution of its names depends


_ABSENT = ModuleText((), ())  # content of a module that does not exist


class Linker:
    """Fill the holes of elements.

    Args:
        own: our own top-level packages.
        text: returns the content of a module; None if the module does not exist.
        exists: returns whether a module exists.
        absolute: resolves an imported name, as written in a module, to one without leading dots.
    """

    def __init__(
        self,
        own: Collection[str],
        text: Callable[[str], ModuleText | None],
        exists: Callable[[str], bool],
        absolute: Callable[[str, str], str],
    ) -> None:
        self._own, self._text, self._exists, self._absolute = frozenset(own), text, exists, absolute
        self._in_progress: set[tuple[str, str]] = set()
        # texts do not change meanwhile, and all of this is asked for again and again
        self._facts_of = cache(self._read_facts)
        self._bounds_of = cache(self._resolve_targets)
        self._names_of = cache(self._top_level_names)
        self._definitions_of = cache(self._digests_by_name)
        # the digests of each element: the first with references by name, the second by content
        self._plain_of = cache(partial(self._fill_holes, _bound_name))
        self._linked_of = cache(partial(self._fill_holes, self._value))
        self.plain_digests = self._plain_of
        self.package_digests = cache(self._fill_within_package)
        self._find = cache(self._resolve_name)

    def find_relevant_code(
        self, closure: Collection[str], entry: str, named: Iterable[str]
    ) -> RelevantCode:
        """Return the relevant code of some modules.

        Args:
            closure: all modules that the work may need.
            entry: "module:function" that does the work; empty if there is none.
            named: those modules of `closure` that are imported by a name that no text contains.
        """
        begin = self.find_entry(entry)
        texts = {module: text for module in closure if (text := self._text(module)) is not None}
        facts = [self._facts_of(module) for module in texts]
        words = {begin.name}.union(*(each.words for each in facts))
        whole = {*RESULT_MODULES}.union(*(each.whole for each in facts))
        whole |= {root for root in named if root in texts and not texts[root].registers}
        below = tuple({f"{package}." for each in facts for package in each.iterated})
        binding, others = set[str](), list[str]()
        modules: dict[str, str] = {}
        definitions: dict[str, list[tuple[str, str]]] = {}
        left_out: dict[str, tuple[str, ...]] = {}
        for module, text in texts.items():
            if module.startswith(below):
                whole.add(module)
            out = [
                module not in whole and element.optional and words.isdisjoint(element.names)
                for element in text.elements
            ]
            bound, acting = _split_digests(text, self._linked_of(module), out)
            binding |= bound
            others += acting
            plain = self._element_digests(module, out)
            modules[module] = digest_of(*sorted(digest for _, digest in plain))[:SHORT_DIGEST]
            definitions[module] = [(name, digest[:SHORT_DIGEST]) for name, digest in plain]
            names = tuple(element.names[0] for element in compress(text.elements, out))
            left_out |= {module: names} if names else {}
        effects = {full for each in facts for full in each.effects}
        parts = (*sorted(binding), "", *sorted(others), "", *sorted(effects))
        digest = digest_of(self._value(begin), *parts)
        return RelevantCode(
            digest,
            modules,
            left_out,
            self._consulted_modules(texts, begin),
            definitions,
            frozenset(words),
            frozenset(whole),
            begin,
        )

    def find_entry(self, entry: str) -> Binding:
        """Return what "module:function" is bound to; nothing for an empty text."""
        return self._find(entry.replace(":", ".")) if entry else Binding("")

    def effects(self, module: str) -> tuple[str, ...]:
        """Return the imports from other packages of which a module uses nothing."""
        return self._facts_of(module).effects

    def reexports(self, module: str) -> list[tuple[str, str]]:
        """Return the names of its package that a module imports and does not use, and digests of their full names.

        "*" stands for its imports with a star.
        """
        text, package = self._text_or_absent(module), module.partition(".")[0]
        used = {*chain.from_iterable(map(prefixes, text.targets))}
        found = [
            (name, digest_of(bound.module, bound.name, bound.attributes))
            for name, target in text.bindings.items()
            if target not in used
            and (bound := self._resolve_target(module, target)).module.partition(".")[0] == package
        ]
        stars = [self._absolute(module, star) for star in text.stars]
        return [*found, ("*", digest_of(*stars))] if stars else found

    def lacks_names(self, module: str) -> bool:
        """Return whether a module refers to names in our other packages which these do not have."""
        others = self._own - {module.partition(".")[0]}
        unbound = (
            f"{bound.module}{bound.attributes}" or bound.name
            for bound in self._bounds_of(module)
            if not bound.module or (bound.is_module and bound.attributes[:3] not in {"", ".__"})
        )
        return any(name.partition(".")[0] in others for name in unbound)

    def _element_digests(self, module: str, left_out: Sequence[bool]) -> list[tuple[str, str]]:
        """Return the names and digests of a module's elements, except those that are `left_out`."""
        elements = zip(
            self._text_or_absent(module).elements, self._plain_of(module), left_out, strict=True
        )
        return [
            (next(iter(element.names), ""), digest)
            for element, digest, is_out in elements
            if not is_out
        ]

    def words(self, closure: Iterable[str]) -> frozenset[str]:
        """Return the names and words in some modules."""
        return frozenset().union(*(self._facts_of(module).words for module in closure))

    def _consulted_modules(self, closure: Collection[str], begin: Binding) -> frozenset[str]:
        """Return the modules outside of a closure on which its digest depends."""
        inside = [self._facts_of(module).consulted for module in closure]
        asked = frozenset(begin.consulted).union(*inside).difference(closure)
        # the asked modules count only with their definitions' own texts
        return asked.union(*(self._facts_of(module).consulted for module in asked)).difference(
            closure
        )

    def _fill_holes(
        self,
        value: Callable[[Binding], str],
        module: str,
        imported: Callable[[Binding], str] = lambda _: "module",
    ) -> tuple[str, ...]:
        """Return the digest of each element with its holes filled; `imported` fills those of imported modules."""
        text = self._text_or_absent(module)
        values = [
            imported(bound) if target[0] == IMPORTED and bound.is_module else value(bound)
            for target, bound in zip(text.targets, self._bounds_of(module), strict=True)
        ]
        return tuple(
            digest_of(element.form, *(values[hole] for hole in element.holes))
            for element in text.elements
        )

    def _fill_within_package(self, module: str) -> tuple[str, ...]:
        """Return the digest of each element; references to other packages enter by name only.

        Those within the package enter with their module, because two modules may have equal definitions that use
        different ones.
        """
        package = module.partition(".")[0]

        def value(bound: Binding) -> str:
            is_within = bound.module.partition(".")[0] == package
            return f"{bound.module} {self._value(bound)}" if is_within else _bound_name(bound)

        return self._fill_holes(value, module, lambda bound: f"module {bound.module}")

    def _value(self, bound: Binding) -> str:
        """Return the content of a hole: a digest of our own code, or a full name in another package."""
        if bound.is_module:
            return digest_of(*sorted(self._plain_of(bound.module))) + bound.attributes
        if bound.module:
            return self._definitions_of(bound.module)[bound.name] + bound.attributes
        return bound.name

    def _digests_by_name(self, module: str) -> dict[str, str]:
        """Return a digest for each name at the top of a module, from the elements that bind it."""
        digests = dict[str, list[str]]()
        for element, digest in zip(
            self._text_or_absent(module).elements, self._plain_of(module), strict=True
        ):
            for name in element.names:
                digests.setdefault(name, []).append(digest)
        return {name: digest_of(*each) for name, each in digests.items()}

    # relevant definitions

    def _read_facts(self, module: str) -> _ModuleFacts:
        """Return the words, references and unused imports of a module."""
        text, bounds = self._text_or_absent(module), self._bounds_of(module)
        imported = [self._resolve_target(module, target) for target in text.bindings.values()]
        words = {*text.words.split(), *(bound.name for bound in imported)}
        for bound in bounds:
            words.update(_words_of_binding(bound))
        whole = {
            bound.module
            for target, bound in zip(text.targets, bounds, strict=True)
            if bound.is_module and target[0] != IMPORTED
        }
        return _ModuleFacts(
            words=frozenset(words),
            whole=frozenset({*whole, module} if text.is_whole else whole),
            iterated=tuple(
                self._absolute(module, name.removesuffix(BELOW))
                for name in text.imports
                if name.endswith(BELOW)
            ),
            effects=tuple(
                full
                for full in text.effects
                if full.partition(".")[0] not in {*self._own, LAUNCHER}
            ),
            consulted=frozenset(name for bound in (*bounds, *imported) for name in bound.consulted),
        )

    def _text_or_absent(self, module: str) -> ModuleText:
        return self._text(module) or _ABSENT

    # resolution of targets

    def _resolve_targets(self, module: str) -> tuple[Binding, ...]:
        """Return the bindings of the targets in a module's text."""
        return tuple(
            self._resolve_target(module, each) for each in self._text_or_absent(module).targets
        )

    def _top_level_names(self, module: str) -> frozenset[str]:
        return frozenset(
            name for each in self._text_or_absent(module).elements for name in each.names
        )

    def _resolve_target(self, module: str, target: str) -> Binding:
        mark, name = target[:1], target[1:]
        if mark == TEXT:
            return self._resolve_string(name)
        if mark in {OWN, STAR}:
            first, *rest = name.split(".")
            return self._resolve_in_module(module, first, rest) or Binding(name)
        return self._find(self._absolute(module, name if mark == IMPORTED else target))

    def _resolve_string(self, text: str) -> Binding:
        """Return the binding of a string: one of our modules, a name in one, or the string itself."""
        name, _, symbol = text.partition(":")
        if name.partition(".")[0] not in self._own:
            return Binding(repr(text))
        if self._text(name) is None:
            return Binding(repr(text), consulted=(name,))
        found = self._find(f"{name}.{symbol}" if symbol else name)
        return found._replace(consulted=(*found.consulted, name))

    def _resolve_name(self, dotted: str) -> Binding:
        """Return the binding of a full name."""
        top = dotted.partition(".")[0]
        if top == LAUNCHER:
            return self._resolve_launcher(dotted)
        return self._resolve_own(dotted) if top in self._own else Binding(dotted)

    def _resolve_own(self, dotted: str) -> Binding:
        module, *parts = dotted.split(".")
        asked = [module]
        if self._text(module) is None:
            return Binding(dotted, consulted=(module,))
        while parts:
            found = self._resolve_in_module(module, parts[0], parts[1:])
            if found is not None:
                return found._replace(consulted=(*asked, *found.consulted))
            asked.append(f"{module}.{parts[0]}")
            if self._text(asked[-1]) is None:
                break
            module, parts = asked[-1], parts[1:]
        return Binding("", module, "".join(f".{part}" for part in parts), tuple(asked))

    def _resolve_launcher(self, dotted: str) -> Binding:
        """Return the definition if it decides results, otherwise the name, because its definition may move."""
        module, *parts = dotted.split(".")
        while parts and self._exists(f"{module}.{parts[0]}"):
            module, parts = f"{module}.{parts[0]}", parts[1:]
        asked = (module,) if module in {API_MODULE, *RESULT_MODULES} else ()
        found = self._resolve_in_module(module, parts[0], parts[1:]) if parts and asked else None
        if found is not None and found.module in RESULT_MODULES:
            return found._replace(consulted=(*asked, *found.consulted))
        return Binding(":".join((LAUNCHER, ".".join(parts))), consulted=asked)

    def _resolve_in_module(self, module: str, name: str, rest: Sequence[str]) -> Binding | None:
        """Return the binding of a name at the top of a module; None if there is no such name."""
        text = self._text(module)
        if text is None or (module, name) in self._in_progress:
            return None
        attributes = "".join(f".{part}" for part in rest)
        if name in self._names_of(module):
            return Binding(name, module, attributes)
        self._in_progress.add((module, name))  # modules may import a name from each other
        try:
            if name in text.bindings:
                return self._resolve_target(module, text.bindings[name] + attributes)
            for star in text.stars:
                found = self._resolve_in_module(self._absolute(module, star), name, rest)
                if found is not None:
                    return found
        finally:
            self._in_progress.discard((module, name))
        return None


def digest_of(*parts: str) -> str:
    """Return a digest of some texts."""
    text = "\n".join(parts).encode(errors="surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]


def _bound_name(bound: Binding) -> str:
    """Return how a name is written where it does not matter what it is bound to."""
    return "module" + bound.attributes if bound.is_module else bound.name + bound.attributes


def _words_of_binding(bound: Binding) -> list[str]:
    """Return the words in a name; of references to our own code only the names of definitions."""
    if bound.name[:1] in {"'", '"'}:
        return _WORD.findall(bound.name)
    return bound.attributes.split(".") if bound.is_module else _bound_name(bound).split(".")


def _split_digests(
    text: ModuleText, digests: Sequence[str], left_out: Sequence[bool]
) -> tuple[set[str], list[str]]:
    """Return the digests of elements that bind names, and those of others, without the elements `left_out`.

    Equal definitions in two modules become one definition when the modules are merged, so the set contains their
    digest once. The second equal definition in the same module is marked by a suffix.
    """
    binding, others = set[str](), list[str]()
    for element, digest, is_out in zip(text.elements, digests, left_out, strict=True):
        if is_out:
            continue
        if not element.names:
            others.append(digest)
            continue
        while digest in binding:
            digest += "+"  # the next of the same kind
        binding.add(digest)
    return binding, others
