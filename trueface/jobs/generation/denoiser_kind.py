"""The kind `denoiser`: one job trains a denoising auto-encoder. No torch here."""

from collections.abc import Iterator
from pathlib import Path

from launcher.api import Draft, Input, Role
from trueface.data.picture_sets import picture_folder
from trueface.jobs.generation.generation_kind import GenerationKind
from trueface.purification.settings import DenoiserSettings
from trueface.runtime import paths


def _inputs(draft: Draft) -> Iterator[Input]:
    folder = picture_folder(draft.path(draft.settings["data_root"]), _data(draft))
    yield Input(path=folder, what="the folder of images to learn from")


def _outputs(draft: Draft) -> tuple[Path, ...]:
    folder = draft.model_folder(_named(draft.model, draft))
    return paths.checkpoint(folder), paths.provenance(folder)


def _data(draft: Draft) -> str:
    return _named(draft.data, draft)


def _named(text: str | None, draft: Draft) -> str:
    if text is None:
        raise ValueError(f"a job of kind {draft.kind!r} has a model and a data ID")
    return text


DENOISER = GenerationKind(
    name="denoiser",
    role=Role.TRAIN,
    summary="train a denoising auto-encoder",
    entry="trueface.jobs.generation.denoiser:denoiser",
    settings=DenoiserSettings,
    sets=("noisy",),
    reads=_inputs,
    makes=_outputs,
)
