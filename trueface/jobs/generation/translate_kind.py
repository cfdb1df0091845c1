"""The kind `translate`: one job makes fakes of images, and a data root for detectors. No torch here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.api import Draft, Input, Role
from trueface.jobs.generation.generation_kind import GenerationKind
from trueface.runtime import paths
from trueface.translation.folder_settings import TranslateSettings

MADE = "made.json"


def _inputs(draft: Draft) -> Iterator[Input]:
    settings = draft.settings
    yield Input(path=draft.path(settings["source"]), what="the folder of images to translate")
    if settings["real"]:
        yield Input(path=draft.path(settings["real"]), what="the folder of real images")
    model = settings["translator"]
    if model:
        yield Input(
            path=paths.checkpoint(draft.model_folder(model)), what=f"the translator {model}"
        )


def _outputs(draft: Draft) -> Iterator[Path]:
    folder = draft.made_folder()
    yield folder
    yield folder / MADE


def _unfit(draft: Draft, _: Sequence[Draft]) -> Iterator[str]:
    if not draft.settings["translator"]:
        yield (
            f"{draft.name}: translate needs a translator; write translator: and the ID of one, such as "
            "labelled:A"
        )


TRANSLATE = GenerationKind(
    name="translate",
    role=Role.FOLDER,
    summary="make fakes of a folder's images, and a data root of real and fake for detectors",
    entry="trueface.jobs.generation.translate:translate",
    settings=TranslateSettings,
    reads=_inputs,
    makes=_outputs,
    refuses=_unfit,
)
