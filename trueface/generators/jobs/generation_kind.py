"""One kind of job about generators as the launcher plans it. No torch here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from launcher.api import DataId, Draft, UsageError, parse_model
from trueface.data.vocabulary import DataIdResolver
from trueface.generators.image_sets import picture_data
from trueface.jobs.job_kind import JobKind, command_line
from trueface.jobs.rule import PlanCheck

# settings that name a model, and the kinds that make one
MADE_BY: Mapping[str, tuple[str, ...]] = {
    "translator": ("translator",),
    "diffuser": ("diffuser", "erase"),
    "teacher": ("diffuser", "erase"),
    "denoiser": ("denoiser",),
}


@PlanCheck
def _find_misnamed_models(
    draft: Draft, makers: Sequence[Draft], _: DataIdResolver
) -> Iterator[str]:
    """Yield the models of this plan whose kind differs from the kind that a setting requires."""
    for setting, kinds in MADE_BY.items():
        model = draft.settings.get(setting)
        for maker in makers:
            if model and maker.model == model and maker.kind not in kinds:
                yield (
                    f"{draft.name}: {setting}: {model} is a model of {maker.kind}. Give a model of "
                    f"{' or '.join(kinds)}."
                )


@dataclass(frozen=True, kw_only=True)
class GenerationKind(JobKind):
    """A kind of job about generators, and about folders of images; its command is `trueface generate NAME`."""

    common_checks: ClassVar[tuple[PlanCheck, ...]] = (_find_misnamed_models,)
    sets: tuple[str, ...] = ()  # sets of images that its data ID may name
    reported_validation: frozenset[str] | None = frozenset()
    accepts_custom_words: bool = False
    lower_is_better: frozenset[str] = frozenset()

    def images(self, data: DataId) -> DataId:
        """Return `data`; there is nothing to add."""
        return picture_data(data, *self.sets)

    def warnings(self, draft: Draft) -> tuple[str, ...]:
        """Return the warnings of all job types, and that a measured translator may need a reference."""
        return (*super().warnings(draft), *filter(None, (_unnamed_reference(draft),)))

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return a command line that does the same."""
        given = {"--model": draft.model, "--base": draft.base, "--name": draft.name}
        flags = chain.from_iterable((flag, value) for flag, value in given.items() if value)
        return (
            *command_line(draft, self.settings, "generate", self.name, "--run", draft.run, *flags),
        )


def _unnamed_reference(draft: Draft) -> str:
    """Return a warning if the ID of a measured translator says that it is a defence, but no reference is set, or ''."""
    translator = draft.settings.get("translator")
    if draft.settings.get("reference") != "" or not translator:
        return ""
    variant: dict[str, str] = {}
    with suppress(UsageError):  # a model of an earlier run may have a name that is not an ID
        variant = dict(parse_model(translator).last.variant)
    if variant.get("adversarial", "off") == "off":
        return ""
    return (
        f"{translator} is trained against disruption, but without reference it is measured like an undefended "
        "generator. Write reference: MODEL, the ID of the undefended one."
    )
