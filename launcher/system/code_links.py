"""What the names in the code of many modules are bound to, and which elements of them count.

An element's digest is that of its form with each hole filled by the digest of the definition that its
target leads to, wherever that lies, or by the full name of what another package has. So neither the
names of modules nor the order of definitions enter it.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache, partial
from itertools import compress
from typing import NamedTuple

from launcher.system.code_text import BELOW, IMPORTED, OWN, STAR, TEXT, ModuleText

LAUNCHER = "launcher"
DOOR = "launcher.api"
# of the launcher's own modules those that decide results: which images and models an ID names
DECIDING = frozenset({"launcher.ids"})

SHORT = 8  # characters of a module's digest, by which changes are named and not decided
_WORD = re.compile(r"[^\W\d]\w*")


class Bound(NamedTuple):
    """What a target leads to."""

    name: str  # of a definition, in `module`; without one the full name of what is not ours
    module: str = ""  # of ours
    rest: str = ""  # attributes of it: ".a.b"
    through: tuple[str, ...] = ()  # modules that were asked, whether they exist or not

    @property
    def is_module(self) -> bool:
        """Whether a module as a whole is meant."""
        return bool(self.module) and not self.name


class Counted(NamedTuple):
    """What counts of the elements of some modules."""

    digest: str
    modules: dict[str, str]  # module → digest of what counts of it; what it refers to by name alone
    left_out: dict[str, tuple[str, ...]]  # module → names of definitions that do not count
    asked: frozenset[str]  # other modules on which this depends
    # module → names and digests of what counts of it; "" for statements that bind no name
    definitions: dict[str, list[tuple[str, str]]]


class _Facts(NamedTuple):
    """What one module says of others, and of what counts."""

    words: frozenset[str]  # that stand in it; of what is ours the names of definitions alone
    whole: frozenset[str]  # modules in which any name may be looked up
    iterated: tuple[str, ...]  # packages through whose modules it goes
    effects: tuple[str, ...]  # what it imports of other packages without using it
    asked: frozenset[str]  # modules on which what its names lead to depends


_ABSENT = ModuleText((), ())  # what a module says that is not there


class Linker:
    """Fills the holes of elements.

    Args:
        own: the top-level packages that are ours.
        text: gives what the text of a module says; None where there is no such module.
        exists: tells whether there is a module.
        absolute: gives an imported name, as a module means it, without leading dots.
    """

    def __init__(
        self,
        own: Collection[str],
        text: Callable[[str], ModuleText | None],
        exists: Callable[[str], bool],
        absolute: Callable[[str, str], str],
    ) -> None:
        self._own, self._text, self._exists, self._absolute = own, text, exists, absolute
        self._following: set[tuple[str, str]] = set()
        # texts do not change meanwhile, and all of this is asked for again and again
        self._facts_of = cache(self._say)
        self._bounds_of = cache(self._follow_all)
        self._names_of = cache(self._bound_at_top)
        self._definitions_of = cache(self._digests_by_name)
        # of each element, what it refers to enters by name; or by its own text
        self._plain_of = cache(partial(self._filled, _spelling))
        self._linked_of = cache(partial(self._filled, self._value))
        self._find = cache(self._led_to)

    def count(self, closure: Collection[str], entry: str, named: Iterable[str]) -> Counted:
        """Return what counts of some modules.

        Args:
            closure: all that the work may need.
            entry: "module:function" that does it; '' of none.
            named: those of them that are imported by a name that no text tells.
        """
        begin = self._find(entry.replace(":", ".")) if entry else Bound("")
        texts = {module: text for module in closure if (text := self._text(module)) is not None}
        facts = [self._facts_of(module) for module in texts]
        words = {begin.name}.union(*(each.words for each in facts))
        whole = DECIDING.union(*(each.whole for each in facts))
        whole |= {root for root in named if root in texts and not texts[root].registers}
        below = tuple({f"{package}." for each in facts for package in each.iterated})
        binding, others = set[str](), list[str]()
        modules: dict[str, str] = {}
        definitions: dict[str, list[tuple[str, str]]] = {}
        left_out: dict[str, tuple[str, ...]] = {}
        for module, text in texts.items():
            is_whole = module in whole or module.startswith(below)
            out = [
                not is_whole and element.optional and words.isdisjoint(element.names)
                for element in text.elements
            ]
            bound, acting = _sorted(text, self._linked_of(module), out)
            binding |= bound
            others += acting
            plain = self._named(module, out)
            modules[module] = digest_of(*sorted(digest for _, digest in plain))[:SHORT]
            definitions[module] = [(name, digest[:SHORT]) for name, digest in plain]
            names = tuple(element.names[0] for element in compress(text.elements, out))
            left_out |= {module: names} if names else {}
        effects = {full for each in facts for full in each.effects}
        parts = (*sorted(binding), "", *sorted(others), "", *sorted(effects))
        digest = digest_of(self._value(begin), *parts)
        return Counted(digest, modules, left_out, self._asked(texts, begin), definitions)

    def _named(self, module: str, out: Sequence[bool]) -> list[tuple[str, str]]:
        """Return the names and digests of a module's elements, but for those that are `out`."""
        elements = zip(self._said(module).elements, self._plain_of(module), out, strict=True)
        return [
            (next(iter(element.names), ""), digest)
            for element, digest, is_out in elements
            if not is_out
        ]

    def words(self, closure: Iterable[str]) -> frozenset[str]:
        """Return the names and words that stand in some modules."""
        return frozenset().union(*(self._facts_of(module).words for module in closure))

    def _asked(self, closure: Collection[str], begin: Bound) -> frozenset[str]:
        """Return the modules outside of a closure on which its digest depends."""
        inside = [self._facts_of(module).asked for module in closure]
        asked = frozenset(begin.through).union(*inside).difference(closure)
        # of which only the own texts of definitions count
        return asked.union(*(self._facts_of(module).asked for module in asked)).difference(closure)

    def _filled(self, value: Callable[[Bound], str], module: str) -> tuple[str, ...]:
        """Return the digest of each element with its holes filled."""
        text = self._said(module)
        values = [
            "module" if target[0] == IMPORTED and bound.is_module else value(bound)
            for target, bound in zip(text.targets, self._bounds_of(module), strict=True)
        ]
        return tuple(
            digest_of(element.form, *(values[hole] for hole in element.holes))
            for element in text.elements
        )

    def _value(self, bound: Bound) -> str:
        """Return what fills a hole: the own text of what is ours, else a full name."""
        if bound.is_module:
            return digest_of(*sorted(self._plain_of(bound.module))) + bound.rest
        if bound.module:
            return self._definitions_of(bound.module)[bound.name] + bound.rest
        return bound.name

    def _digests_by_name(self, module: str) -> dict[str, str]:
        """Return for each name at the top of a module the own text of what binds it."""
        digests = dict[str, list[str]]()
        for element, digest in zip(
            self._said(module).elements, self._plain_of(module), strict=True
        ):
            for name in element.names:
                digests.setdefault(name, []).append(digest)
        return {name: digest_of(*each) for name, each in digests.items()}

    # which definitions count

    def _say(self, module: str) -> _Facts:
        """Return what a module says of others, and of the closure."""
        text, bounds = self._said(module), self._bounds_of(module)
        imported = [self._follow(module, target) for target in text.bindings.values()]
        words = {*text.words.split(), *(bound.name for bound in imported)}
        for bound in bounds:
            words.update(_words_of(bound))
        whole = {
            bound.module
            for target, bound in zip(text.targets, bounds, strict=True)
            if bound.is_module and target[0] != IMPORTED
        }
        return _Facts(
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
            asked=frozenset(name for bound in (*bounds, *imported) for name in bound.through),
        )

    def _said(self, module: str) -> ModuleText:
        return self._text(module) or _ABSENT

    # what targets lead to

    def _follow_all(self, module: str) -> tuple[Bound, ...]:
        """Return what the targets of a module's text lead to."""
        return tuple(self._follow(module, each) for each in self._said(module).targets)

    def _bound_at_top(self, module: str) -> frozenset[str]:
        return frozenset(name for each in self._said(module).elements for name in each.names)

    def _follow(self, module: str, target: str) -> Bound:
        mark, name = target[:1], target[1:]
        if mark == TEXT:
            return self._in_string(name)
        if mark in {OWN, STAR}:
            first, *rest = name.split(".")
            return self._inside(module, first, rest) or Bound(name)
        return self._find(self._absolute(module, name if mark == IMPORTED else target))

    def _in_string(self, text: str) -> Bound:
        """Return what a string names: a module of ours, something in one, or itself."""
        name, _, symbol = text.partition(":")
        if name.partition(".")[0] not in self._own:
            return Bound(repr(text))
        if self._text(name) is None:
            return Bound(repr(text), through=(name,))
        found = self._find(f"{name}.{symbol}" if symbol else name)
        return found._replace(through=(*found.through, name))

    def _led_to(self, dotted: str) -> Bound:
        """Return what a full name leads to."""
        top = dotted.partition(".")[0]
        if top == LAUNCHER:
            return self._of_launcher(dotted)
        return self._of_ours(dotted) if top in self._own else Bound(dotted)

    def _of_ours(self, dotted: str) -> Bound:
        module, *parts = dotted.split(".")
        asked = [module]
        if self._text(module) is None:
            return Bound(dotted, through=(module,))
        while parts:
            found = self._inside(module, parts[0], parts[1:])
            if found is not None:
                return found._replace(through=(*asked, *found.through))
            asked.append(f"{module}.{parts[0]}")
            if self._text(asked[-1]) is None:
                break
            module, parts = asked[-1], parts[1:]
        return Bound("", module, "".join(f".{part}" for part in parts), tuple(asked))

    def _of_launcher(self, dotted: str) -> Bound:
        """Return what decides results by its definition, and all else by name: it may move."""
        module, *parts = dotted.split(".")
        while parts and self._exists(f"{module}.{parts[0]}"):
            module, parts = f"{module}.{parts[0]}", parts[1:]
        asked = (module,) if module in {DOOR, *DECIDING} else ()
        found = self._inside(module, parts[0], parts[1:]) if parts and asked else None
        if found is not None and found.module in DECIDING:
            return found._replace(through=(*asked, *found.through))
        return Bound(":".join((LAUNCHER, ".".join(parts))), through=asked)

    def _inside(self, module: str, name: str, rest: Sequence[str]) -> Bound | None:
        """Return what a name at the top of a module leads to; None where there is none."""
        text = self._text(module)
        if text is None or (module, name) in self._following:
            return None
        attributes = "".join(f".{part}" for part in rest)
        if name in self._names_of(module):
            return Bound(name, module, attributes)
        self._following.add((module, name))  # modules may import a name from each other
        try:
            if name in text.bindings:
                return self._follow(module, text.bindings[name] + attributes)
            for star in text.stars:
                found = self._inside(self._absolute(module, star), name, rest)
                if found is not None:
                    return found
        finally:
            self._following.discard((module, name))
        return None


def digest_of(*parts: str) -> str:
    """Return a digest of some texts."""
    text = "\n".join(parts).encode(errors="surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]


def _spelling(bound: Bound) -> str:
    """Return how a name is written where it does not matter what it is bound to."""
    return "module" + bound.rest if bound.is_module else bound.name + bound.rest


def _words_of(bound: Bound) -> list[str]:
    """Return the words that a name says; of what is ours the names of definitions alone."""
    if bound.name[:1] in {"'", '"'}:
        return _WORD.findall(bound.name)
    return bound.rest.split(".") if bound.is_module else _spelling(bound).split(".")


def _sorted(
    text: ModuleText, digests: Sequence[str], out: Sequence[bool]
) -> tuple[set[str], list[str]]:
    """Return the digests of elements that bind names, and of others; those are not that are `out`.

    What two modules define alike is one definition when they are merged, so of the first each is there
    once, with a mark for the second of its kind in one module.
    """
    binding, others = set[str](), list[str]()
    for element, digest, is_out in zip(text.elements, digests, out, strict=True):
        if is_out:
            continue
        if not element.names:
            others.append(digest)
            continue
        while digest in binding:
            digest += "+"  # the next of the same kind
        binding.add(digest)
    return binding, others
