"""Command lines that do what a planned job does, without the queue; ready to be pasted."""

from collections.abc import Iterator
from dataclasses import replace

from launcher.api import Draft, ModelId, Settings, parse_model
from trueface.data.settings import SampleSettings, TestSettings
from trueface.jobs.flags import classic_words, word_flags, words
from trueface.jobs.inputs_outputs import model_of
from trueface.poisoning.settings import PoisonSettings
from trueface.training.settings import TrainSettings
from trueface.unlearning.settings import UnlearnSettings

PROGRAM = ("python", "-m", "trueface")


def training(draft: Draft) -> Iterator[str]:
    """Yield the classic command line; it takes the poison record that is there."""
    yield from (*PROGRAM, "--name", draft.run, "--task", "train")
    if draft.base is not None:
        yield from ("--load_id", draft.base)
    yield from ("--save_id", model_of(draft), "--data", draft.data or "")
    yield from _device(draft)
    poison = parse_model(model_of(draft)).last.poison
    if poison is not None:
        yield from ("--poison_rate", str(poison.rate))
        if poison.kind is not None:
            yield from ("--poison_kind", poison.kind)
        yield "--keep_poison"
    yield from word_flags(draft.words)
    if draft.gpus > 1 and not draft.settings["processes"]:
        yield from ("--processes", str(draft.gpus))
    yield from _classic_words(draft, TrainSettings)


def test(draft: Draft) -> tuple[str, ...]:
    """Return the classic command line."""
    return (  # at once: most jobs of a large plan are tests
        *PROGRAM,
        *("--name", draft.run, "--task", "test"),
        *("--load_id", model_of(draft), "--data", draft.data or ""),
        *_device(draft),
        *word_flags(draft.words),
        *_classic_words(draft, TestSettings),
    )


def poison(draft: Draft) -> Iterator[str]:
    """Yield the command line of `trueface poison`."""
    yield from _command(draft, PoisonSettings)
    for model in draft.further_models:
        yield from ("--for", model)


def unlearning(draft: Draft) -> Iterator[str]:
    """Yield the command line of `trueface unlearn`; the model's ID names the method."""
    yield from _command(draft, UnlearnSettings, "method")
    yield from _device(draft)
    if draft.base is not None and draft.base != str(before(parse_model(model_of(draft)))):
        yield from ("--base", draft.base)


def sample(draft: Draft) -> Iterator[str]:
    """Yield the command line of `trueface sample`."""
    others = {key: value for key, value in draft.settings.items() if key != "data_root"}
    yield from (*PROGRAM, "sample", str(draft.path(draft.settings["data_root"])))
    yield from words(others, SampleSettings)


def before(model: ModelId) -> ModelId:
    """Return the model as its ID says it was before its last unlearning.

    Where an unlearning had settings of its own in its ID, its base may be called otherwise.
    """
    return ModelId((*model.stages[:-1], replace(model.last, methods=model.last.methods[:-1])))


def _device(draft: Draft) -> tuple[str, ...]:
    """Return the flag of the device that the task file wants; left to the command if it says none."""
    return () if draft.device == "auto" else ("--device", draft.device)


def _classic_words(draft: Draft, settings: type[Settings]) -> tuple[str, ...]:
    # the tests of a file have their settings in common, and the plan holds them: their id() lasts
    key = ("words", id(draft.settings), settings)
    return draft.once(key, lambda: tuple(classic_words(draft.settings, settings)))


def _command(draft: Draft, settings: type[Settings], *by_id: str) -> Iterator[str]:
    def shown() -> tuple[str, ...]:
        own = {key: value for key, value in draft.settings.items() if key not in by_id}
        return tuple(words(own, settings))

    yield from (*PROGRAM, draft.kind, model_of(draft), "--name", draft.run)
    yield from word_flags(draft.words)
    yield from draft.once(("words", id(draft.settings), settings), shown)  # as above
