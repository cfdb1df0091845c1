"""What all kinds of generators' jobs have in common: facts, and a function for each question. No torch here."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.api import DataId, Draft, Input, Role, Settings, Words
from trueface.data.picture_sets import validated
from trueface.jobs.flags import words
from trueface.jobs.kinds import PRELOAD

PROGRAM = ("python", "-m", "trueface")
MADE_BY: Mapping[
    str, tuple[str, ...]
] = {  # settings that name a model, and the kinds that make one
    "translator": ("translator",),
    "diffuser": ("diffuser", "erase"),
    "teacher": ("diffuser", "erase"),
    "denoiser": ("denoiser",),
}


def _none(*_: object) -> tuple[()]:
    return ()


@dataclass(frozen=True, kw_only=True)
class GenerationKind:
    """A kind of job about generators, and about folders of images."""

    name: str
    role: Role
    summary: str
    entry: str  # the function that does the work
    settings: type[Settings]
    sets: tuple[str, ...] = ()  # of `data.picture_sets`, that its data ID may name
    reads: Callable[[Draft], Iterable[Input]]
    makes: Callable[[Draft], Iterable[Path]]
    refuses: Callable[[Draft, Sequence[Draft]], Iterable[str]] = _none
    results: str = ""
    sources: tuple[str, ...] = ()  # what the entry imports is all
    preload: tuple[str, ...] = PRELOAD

    def images(self, data: DataId) -> DataId:
        """Return the data ID, its words checked.

        Raises:
            UnknownName: one of them is not known.
            UsageError: it names several sets.
        """
        return validated(data, *self.sets)

    def elementary(self, data: DataId) -> DataId:
        """Return the data ID as it is: there are no unions here."""
        return self.images(data)

    def with_words(self, words: Words) -> "GenerationKind":  # noqa: ARG002  # the protocol's shape
        """Return this kind unchanged: its sets of images cannot be user-defined."""
        return self

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:
        """Return why the job must not run, given the jobs that make its model."""
        idle = draft.gpus - 1
        reasons = (*_misnamed(draft, makers), *self.refuses(draft, makers))
        if idle <= 0:
            return reasons
        named = draft.model or draft.name or draft.kind
        return (
            f"{named}: this kind works on one GPU, {draft.gpus} would leave {idle} idle",
            *reasons,
        )

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return every path that the job reads."""
        return tuple(self.reads(draft))

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return every path that proves the job done."""
        return tuple(self.makes(draft))

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return a command line that does the same: `trueface generate KIND …`."""
        named = (
            ("--model", draft.model) if draft.model else (),
            ("--base", draft.base) if draft.base else (),
            ("--name", draft.name) if draft.name else (),
        )
        flags = [word for pair in named for word in pair]
        return (
            *PROGRAM,
            "generate",
            self.name,
            "--run",
            draft.run,
            *flags,
            *words(draft.settings, self.settings),
        )


def _misnamed(draft: Draft, makers: Sequence[Draft]) -> Iterator[str]:
    """Yield which models of this plan are of another kind than the setting that names them asks for."""
    for setting, kinds in MADE_BY.items():
        model = draft.settings.get(setting)
        for maker in makers:
            if model and maker.model == model and maker.kind not in kinds:
                yield (
                    f"{draft.name}: {setting} is {model}, which {maker.kind} makes; name a model that "
                    f"{' or '.join(kinds)} makes"
                )
