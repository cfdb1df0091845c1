"""From a purified folder back to the disrupted and the original one, as their `made.json` tell it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trueface.data.made.folders import MADE, digest_of, image_names, partners, read_made
from trueface.purification.grammar import PurifierName, parse_purifier
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json
from trueface.translation.detector_set import original_of

Facts = Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Three folders of the same images, by names in the same order, and what was done from one to the next."""

    purified: Path
    source: Path  # what was purified: disrupted images, or originals
    original: Path
    names: tuple[str, ...]
    sources: tuple[str, ...]
    originals: tuple[str, ...]
    purification: Facts
    disruption: Facts = field(default_factory=dict)  # empty where originals were purified

    @property
    def is_clean(self) -> bool:
        """Whether originals were purified: what a purifier costs where nothing was disrupted."""
        return not self.disruption

    @property
    def attack(self) -> Mapping[str, Json]:
        """The settings of the disruption; none where originals were purified."""
        return _settings(self.disruption)

    @property
    def purifier(self) -> PurifierName:
        """What purified the images."""
        return parse_purifier(str(_settings(self.purification)["purifier"]))

    @property
    def through(self) -> str:
        """The purifier through which the attack went; "": none."""
        random = self.attack.get("attack") == "random"
        return "" if random else str(self.attack.get("purifier", ""))

    @property
    def is_adaptive(self) -> bool:
        """Whether the attack went through this very purifier, with the same models."""
        if not self.through or self.through != self.purifier.text:
            return False
        purification = _settings(self.purification)
        return all(self.attack[model] == purification[model] for model in self.purifier.needs)


def chain_of(purified: Path, resolve: Callable[[str], Path]) -> Chain:
    """Return the folders that a purified one comes from.

    Args:
        purified: the folder.
        resolve: gives the place of a path as a `made.json` names it.

    Raises:
        DataError: it is no purified folder, a partner is missing, or the images that were purified
            have changed since.
    """
    facts = _made_by(purified, "purify")
    source = resolve(str(facts["source"]))
    disruption = _made_by(source, "disrupt") if (source / MADE).is_file() else {}
    original = original_of(source, resolve)
    names = image_names(purified)
    sources, originals = partners(source, names), partners(original, names)
    if facts.get("source_digest") != digest_of(source, sorted(sources)):
        raise DataError(
            f"{source} holds other images than those of which {purified} was made; purify it again"
        )
    return Chain(
        purified=purified,
        source=source,
        original=original,
        names=names,
        sources=sources,
        originals=originals,
        purification=facts,
        disruption=disruption,
    )


def _made_by(folder: Path, kind: str) -> Facts:
    facts = read_made(folder)
    if facts.get("kind") != kind or not isinstance(facts.get("settings"), dict):
        raise DataError(
            f"{folder} was made by {facts.get('kind')}, not by {kind}: restored reads what purify made of "
            "originals or of what disrupt made"
        )
    return facts


def _settings(facts: Facts) -> Mapping[str, Json]:
    settings = facts.get("settings")
    return settings if isinstance(settings, dict) else {}
