"""The kind `features`: a job that computes features once for others, and what is kept of them.

No torch here, and nothing of the store before it is asked for.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from launcher.api import Draft, Input, Kept, MachineError, Role, SharedJob, SharedPart, Volume
from trueface.corruptions.registry import NONE
from trueface.data.vocabulary import Vocabulary
from trueface.features.folder import limit_bytes, store_folder, views
from trueface.features.folder import remove as remove_view
from trueface.jobs.feature_settings import FeatureSettings
from trueface.jobs.job_kind import LaboratoryKind, base_inputs, data_inputs
from trueface.jobs.lineage import count_images
from trueface.jobs.shared_features import BODY, KIND, PLACE, BodyInput
from trueface.models.registry import spec_of
from trueface.runtime.ids import tested

ITEM_BYTES = 4  # of a number in the store, float32
_READING = ("batch_size", "num_threads", "on_bad_image")  # taken from the first job that is served


@dataclass(frozen=True, kw_only=True)
class FeatureKind(LaboratoryKind):
    """The kind, and what it says besides: `SharesWork` and `KeepsWork` of the launcher."""

    unit: str = "images"

    @property
    def most_bytes(self) -> int | None:
        """How many bytes the store keeps at most; None where there is no store."""
        root = store_folder()
        return None if root is None else limit_bytes(root)

    def shared_job(self, parts: Sequence[SharedPart]) -> SharedJob:
        """Return the job that computes some parts, all of one body."""
        first = parts[0]
        part = _part(first)
        maker = _maker(first)
        model = None if maker is None else maker.settings["model"]
        settings: dict[str, Any] = {
            name: first.draft.settings[name] for name in (*PLACE, *_READING)
        }
        if maker is not None and part.body.base is None:
            settings |= {name: maker.settings[name] for name in BODY}
        elif model is not None:
            settings["model"] = model
        settings["parts"] = [
            {
                "split_list": _part(each).split_list,
                "images": _part(each).images,
                "views": each.passes,
                "augmentation": dict(_part(each).augmentation),
                "corrupt": _part(each).corrupt,
            }
            for each in parts
        ]
        images = dict.fromkeys(word for each in parts for word in _part(each).images.split("&"))
        test = tested(first.draft.data or "", _condition(parts))
        return SharedJob(
            name=f"{part.body.base or model}/{test}",
            settings=settings,
            volumes=[*self._volumes(parts, model)],
            base=part.body.base,
            data=first.draft.data,
            images="&".join(images),
        )

    def _volumes(self, parts: Sequence[SharedPart], model: str | None) -> Iterator[Volume]:
        width = None if model is None else spec_of(model).width
        seen: set[tuple[str, str]] = set()
        for draft, wanted in ((part.draft, _part(part)) for part in parts):
            vocabulary = self.vocabulary.with_layout(draft.settings["layout"])
            count = count_images(draft, wanted.split_list, wanted.images, vocabulary)
            size = None if count is None or width is None else count * width * ITEM_BYTES
            images = (wanted.split_list, wanted.images)
            yield Volume(items=0 if images in seen else count, pass_bytes=size)
            seen.add(images)

    def kept(self, *, unused_s: float = 0.0) -> Kept:
        """Return what the store holds that was not used for so many seconds."""
        return _stored(unused_s, remove=False)

    def clear(self, *, unused_s: float = 0.0) -> Kept:
        """Remove that from the store; a job that reads it goes on."""
        return _stored(unused_s, remove=True)


def _part(part: SharedPart) -> BodyInput:
    assert isinstance(part.part, BodyInput)  # as `shared_features` made it
    return part.part


def _condition(parts: Sequence[SharedPart]) -> str:
    """Return the corruption of all parts as the condition of a test; "" where they differ in it."""
    corrupt = {_part(each).corrupt for each in parts}
    return f"corrupt={corrupt.pop()}" if len(corrupt) == 1 and NONE not in corrupt else ""


def _maker(part: SharedPart) -> Draft | None:
    """Return the job of this plan that tells which network the body of a part is; None: none does."""
    draft, base = part.draft, _part(part).body.base
    if base is None:
        return part.makers[0] if part.makers else draft
    made = next((maker for maker in part.makers if maker.model == base), None)
    return made or (draft if "model" in draft.settings else None)


def _inputs(draft: Draft, vocabulary: Vocabulary) -> Iterator[Input]:
    """Yield the data, and its lists."""
    for part in draft.settings["parts"]:
        images = replace(draft, images=part["images"])
        yield from data_inputs((part["split_list"],), images, vocabulary)


def _stored(unused_s: float, *, remove: bool) -> Kept:
    """Return what the store holds, or what was removed from it, that was not used for so long."""
    root = store_folder()
    if root is None or not root.is_dir():
        return Kept(folder="" if root is None else str(root), files=0, size=0)
    last = time.time() - unused_s
    try:
        there = [view for view in views(root) if view.used_at <= last]
        gone = [view for view in there if remove_view(view)] if remove else there
    except OSError as error:
        raise MachineError(f"cannot clear {root}: {error.strerror}; make it yours") from error
    return Kept(
        folder=str(root),
        files=sum(view.files for view in gone),
        size=sum(view.bytes for view in gone),
    )


FEATURES = FeatureKind(
    name=KIND,
    role=Role.SHARED,
    summary="compute once the features of a frozen body that several jobs need",
    entry="trueface.jobs.features:features",
    settings=FeatureSettings,
    means=Vocabulary.images,
    reads=(_inputs, base_inputs),
)
