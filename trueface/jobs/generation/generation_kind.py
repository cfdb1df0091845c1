"""What all kinds of generators' jobs have in common: facts, and a function for each question. No torch here."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from launcher.api import DataId, Draft, Input, Role, Settings
from trueface.data.vocabulary import Vocabulary, picture_data
from trueface.jobs.flags import words
from trueface.jobs.job_kind import PROGRAM, JobKind, checkpoint_input, model_of, nothing
from trueface.runtime import paths

MADE_BY: Mapping[
    str, tuple[str, ...]
] = {  # settings that name a model, and the kinds that make one
    "translator": ("translator",),
    "diffuser": ("diffuser", "erase"),
    "teacher": ("diffuser", "erase"),
    "denoiser": ("denoiser",),
}


def generation_kind(
    *,
    name: str,
    role: Role,
    summary: str,
    entry: str,
    settings: type[Settings],
    reads: Callable[[Draft], Iterable[Input]],
    makes: Callable[[Draft], Iterable[Path]],
    refuses: Callable[[Draft, Sequence[Draft]], Iterable[str]] = nothing,
    sets: tuple[str, ...] = (),
    results: str = "",
) -> JobKind:
    """Return a kind of job about generators, and about folders of images.

    Args:
        name: of the kind; its command line is `trueface generate NAME`.
        role: its part.
        summary: one line.
        entry: `module:function` below this folder.
        settings: of its jobs.
        reads: what a job reads.
        makes: what proves it done.
        refuses: why it must not run.
        sets: of `data.picture_sets`, that its data ID may name.
        results: `module:function` of its rows.
    """

    def meant(_: Vocabulary, data: DataId) -> DataId:
        return picture_data(data, *sets)

    def refusals(draft: Draft, makers: Sequence[Draft], _: Vocabulary) -> Iterator[str]:
        yield from _misnamed(draft, makers)
        yield from refuses(draft, makers)

    return JobKind(
        name=name,
        role=role,
        summary=summary,
        entry=f"{__package__}.{entry}",
        settings=settings,
        means=meant,
        spells=meant,
        takes_words=False,
        reads=lambda draft, _: reads(draft),
        makes=makes,
        line=partial(_line, name, settings),
        refuses=refusals,
        results=results,
    )


def models_of(draft: Draft, named: Mapping[str, str]) -> Iterator[Input]:
    """Yield the checkpoints of models that settings name, as far as they name one.

    Args:
        draft: with the settings.
        named: setting → what its model is.
    """
    for setting, what in named.items():
        if model := draft.settings[setting]:
            yield checkpoint_input(draft, model, f"{what} {model}")


def inputs(
    places: Mapping[str, str], models: Mapping[str, str] | None = None
) -> Callable[[Draft], Iterator[Input]]:
    """Return what a job reads: files and folders that settings name, and models, as far as they name one.

    Args:
        places: setting → what lies there.
        models: see `models_of`.
    """

    def reads(draft: Draft) -> Iterator[Input]:
        for setting, what in places.items():
            if place := draft.settings[setting]:
                yield Input(path=draft.path(place), what=what)
        yield from models_of(draft, models or {})

    return reads


def model_files(beside: Callable[[Path], Path]) -> Callable[[Draft], tuple[Path, ...]]:
    """Return what a job makes that makes a model: its checkpoint, and a file beside it."""

    def makes(draft: Draft) -> tuple[Path, ...]:
        folder = draft.model_folder(model_of(draft))
        return paths.checkpoint(folder), beside(folder)

    return makes


def made(*files: str) -> Callable[[Draft], tuple[Path, ...]]:
    """Return what a job of the role FOLDER makes: its folder, the record of it, and some files in it."""

    def makes(draft: Draft) -> tuple[Path, ...]:
        folder = draft.made_folder()
        return folder, *(folder / file for file in (paths.MADE_OF, *files))

    return makes


def _line(name: str, settings: type[Settings], draft: Draft) -> Iterator[str]:
    """Yield a command line that does the same: `trueface generate KIND …`."""
    yield from (*PROGRAM, "generate", name, "--run", draft.run)
    for flag, value in (("--model", draft.model), ("--base", draft.base), ("--name", draft.name)):
        if value:
            yield from (flag, value)
    yield from words(draft.settings, settings)


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
