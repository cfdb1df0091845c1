"""The kind `features`: a job that computes features once for other jobs, and the store that keeps them.

Jobs share features where their images pass the same constant body: frozen trainings, unlearnings of
their last layer, and the tests of all these. What is taken for the same here decides what is planned,
and never what is read: the feature store goes by the contents of weights and images. No torch here, and
nothing of the store before it is asked for.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from launcher.api import (
    Draft,
    Input,
    Kept,
    MachineError,
    Role,
    SharedJob,
    SharedPart,
    SharedWork,
    Volume,
    tested,
)
from trueface.corruptions.registry import NONE
from trueface.data.settings import AugmentationSettings, DataSettings
from trueface.data.vocabulary import DataIdResolver
from trueface.features.folder import limit_bytes, store_folder, views
from trueface.features.folder import remove_features as remove_view
from trueface.jobs.feature_settings import FeatureSettings
from trueface.jobs.job_kind import LaboratoryKind, base_inputs, data_inputs
from trueface.jobs.lineage import count_images
from trueface.models.registry import spec_of
from trueface.training.settings import solver_of
from trueface.unlearning.registry import METHODS

KIND = "features"
# settings of new weights
BODY = ("model", "weights", "normalization", "nodown", "channels_last", "seed")
_PLACE = (
    "data_root", "split_path", "layout", "missing_images", "decode", "resize_size", "precision",
)  # fmt: skip
PLACE = (*_PLACE, "patch_size", "test_crops")

# settings that decide an augmented image, besides those that decide it as it is tested
_AUGMENTING = tuple(
    sorted(
        set(AugmentationSettings.model_fields)
        - set(DataSettings.model_fields)
        - {"seed", "augment_cycle", "resize_size", "test_crops"}
    )
)
_USUAL = {name: AugmentationSettings.model_fields[name].default for name in _AUGMENTING}
_DRAWN = ("resize_prob", "blur_prob", "jpeg_prob", "flip_prob", "patch_size")
# settings that change nothing by themselves, without one of those above
_DETAILS = frozenset({"augment_seed", "resize_scale", "resize_ratio", "blur_sigma", "jpeg_qual"})

_place_of, _body_of = itemgetter(*_PLACE), itemgetter(*BODY)
_augmenting_of = itemgetter(*_AUGMENTING)

Augmentation = tuple[tuple[str, Any], ...]


class SharedBody(NamedTuple):
    """A body that does not change: jobs that agree in it pass their images through the same."""

    base: str | None  # ID of the model whose it is; None: of new weights
    settings: tuple[Any, ...] = ()  # values of `BODY`, for new weights


class BodyInput(NamedTuple):
    """Images that pass a body."""

    body: SharedBody
    split_list: str  # train, val or test
    images: str  # data ID, real ones included
    augmentation: Augmentation = ()  # settings; none: as they are tested
    corrupt: str = NONE  # corruption of test images


class _Facts(NamedTuple):
    """Facts that follow from settings alone."""

    shares: bool
    has_frozen_backbone: bool  # training under them does not change the backbone
    place: tuple[Any, ...]
    augmentation: Augmentation  # augmentation of training images
    body: SharedBody | None  # body of new weights; None: the job has no new weights


def training_features(draft: Draft, makers: Sequence[Draft]) -> Iterator[SharedWork]:
    """Yield the features of a frozen training: of its augmented images, and of its validation."""
    facts = _facts(draft)
    if not facts.has_frozen_backbone or draft.settings["warm_start"]:
        return
    body = find_backbone(makers, draft.base, draft)
    epochs, early_stop = draft.settings["num_epochs"], draft.settings["early_stop"]
    # at least so many epochs run
    certain = min(epochs, early_stop + 1) if early_stop else epochs
    if not draft.settings.get(
        "qualities"
    ):  # a training makes its own features of each quality, and keeps them
        yield from _training_work(draft, facts, body, certain)
    yield _work(draft, facts, BodyInput(body, "val", images_of(draft)))


def unlearning_features(draft: Draft, makers: Sequence[Draft]) -> Iterator[SharedWork]:
    """Yield the features of an unlearning of the last layer, in which it learns and is measured."""
    facts = _facts(draft)
    if not facts.has_frozen_backbone or _begins_anew(draft, makers):
        return
    body = find_backbone(makers, draft.base, draft)
    for name in ("train", "val", "test"):
        yield _work(draft, facts, BodyInput(body, name, images_of(draft)))
    field = METHODS[draft.settings["method"]].hyperparameters.model_fields.get("epochs")
    if facts.augmentation and field is not None:
        settings = draft.settings
        epochs = settings["unlearn_epochs"] or field.get_default() or settings["num_epochs"]
        yield from _training_work(draft, facts, body, epochs)


def scoring_features(draft: Draft, makers: Sequence[Draft]) -> Iterator[SharedWork]:
    """Yield the features of a test."""
    # the body of no other model is that of a model which has trained its own
    if makers and _keeps_body(makers[-1], makers[:-1]) and (facts := _facts(draft)).shares:
        body = find_backbone(makers, draft.model, draft)
        corrupt = draft.settings["corrupt"]
        yield _work(draft, facts, BodyInput(body, "test", images_of(draft), corrupt=corrupt))


def benchmark_features(draft: Draft, makers: Sequence[Draft]) -> Iterator[SharedWork]:
    """Yield the features of a benchmark, those of each corruption as a job of their own.

    So conditions are computed side by side; clean images go with the features of other tests.
    """
    if not (makers and _keeps_body(makers[-1], makers[:-1]) and (facts := _facts(draft)).shares):
        return
    body = find_backbone(makers, draft.model, draft)
    chains: Sequence[str] = draft.settings["corrupt"]
    for corrupt in dict.fromkeys((NONE, *chains)):
        work = _work(draft, facts, BodyInput(body, "test", images_of(draft), corrupt=corrupt))
        yield work if corrupt == NONE else work._replace(key=(work.key, corrupt))


def images_of(draft: Draft) -> str:
    """Return the data ID of the images that a job reads."""
    return draft.images or draft.data or ""


def find_backbone(makers: Sequence[Draft], model: str | None, draft: Draft) -> SharedBody:
    """Return the backbone of a model, derived from the jobs of the plan that produce it.

    Args:
        makers: these, first to last.
        model: its ID; None: the initial weights of a training.
        draft: the requesting job; if a training begins with new weights, it specifies them.
    """
    at = len(makers)
    while at and _keeps_body(makers[at - 1], makers[: at - 1]):
        at -= 1
    if at:
        return SharedBody(makers[at - 1].model)
    first = makers[0] if makers else draft
    base = first.base if makers or model is None else model
    return SharedBody(base) if base is not None else _facts(first).body or SharedBody(model)


def _training_work(
    draft: Draft, facts: _Facts, body: SharedBody, epochs: int
) -> Iterator[SharedWork]:
    cycle = draft.settings["augment_cycle"]
    views = min(cycle or epochs, epochs) if facts.augmentation else 1
    yield _work(draft, facts, BodyInput(body, "train", images_of(draft), facts.augmentation), views)


def _work(draft: Draft, facts: _Facts, part: BodyInput, views: int = 1) -> SharedWork:
    return SharedWork(KIND, (part.body, draft.data, facts.place), part, views)


def _facts(draft: Draft) -> _Facts:
    # the jobs of an entry have their settings in common, and the plan holds them: their id() lasts
    key = (KIND, id(draft.settings))
    facts: _Facts | None = draft.lookups.get(key)  # quicker than `once`, for very many jobs
    if facts is None:
        facts = draft.lookups[key] = _facts_of(draft)
    return facts


def _facts_of(draft: Draft) -> _Facts:
    settings = draft.settings
    learns = "augment_seed" in settings
    is_ridge = learns and solver_of(settings) == "ridge"
    # the features of a clip are not stored
    shares = settings["cache"] != "none" and not settings.get("clips")
    crops = settings["test_crops"]
    augmenting = tuple(map(_hashable, _augmenting_of(settings))) if learns else ()
    return _Facts(
        shares=shares,
        has_frozen_backbone=shares and _is_frozen(draft),
        # without crops the whole centre crop is used, whatever the size of patches
        place=(*_place_of(settings), crops, settings["patch_size"] if crops else -1),
        # in closed form images are learned as they are tested; of its copies the store alone knows
        augmentation=_augmentation(augmenting, crops > 0) if learns and not is_ridge else (),
        body=_untrained_body(*_body_of(settings)) if learns else None,
    )


@lru_cache(maxsize=256)  # a sweep has very many settings, and few of these
def _augmentation(augmenting: tuple[Any, ...], crops: bool) -> Augmentation:
    """Return the settings of a training's augmentation; () where it learns images as they are tested."""
    values = dict(zip(_AUGMENTING, augmenting, strict=True))
    is_drawn = any(values[name] > 0 for name in _DRAWN)
    further = (name for name in values if name not in _DETAILS and name not in _DRAWN)
    if is_drawn or crops or any(values[name] != _USUAL[name] for name in further):
        seed = ("augment_seed", values.pop("augment_seed"))  # it always counts
        return (seed, *(pair for pair in values.items() if pair[1] != _USUAL[pair[0]]))
    return ()


def _untrained_body(*values: Any) -> SharedBody:
    *others, seed = values
    model, weights = (others[BODY.index(name)] for name in ("model", "weights"))
    # weights that are read follow from no seed, and statistics of pixels have none
    return SharedBody(
        None, (*others, seed if weights == "none" and not _is_statistic(model) else None)
    )


@lru_cache(maxsize=64)
def _is_statistic(model: str) -> bool:
    spec = spec_of(model)
    return spec.solver == "ridge" and spec.inner is None and spec.weights_url is None


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_frozen(draft: Draft) -> bool:
    return bool(draft.settings.get("freeze") and draft.settings.get("freeze_bn"))


def _keeps_body(maker: Draft, makers: Sequence[Draft]) -> bool:
    if not _is_frozen(maker) or maker.settings.get("warm_start"):
        return False
    return "method" not in maker.settings or not _begins_anew(maker, makers)


def _begins_anew(draft: Draft, makers: Sequence[Draft]) -> bool:
    """Return whether an unlearning trains another backbone than that of its base: the one before it."""
    if "untrained model" not in METHODS[draft.settings["method"]].needs:
        return False
    return bool(makers) and not all(map(_is_frozen, makers))


ITEM_BYTES = 4  # bytes of a number in the store, float32
_READING = ("batch_size", "num_threads", "on_bad_image")  # taken from the first job that is served


@dataclass(frozen=True, kw_only=True)
class FeatureKind(LaboratoryKind):
    """The kind, which also implements `SharesWork` and `KeepsWork` of the launcher."""

    unit: str = "images"

    @property
    def most_bytes(self) -> int | None:
        """Size limit of the store in bytes, or None if there is no store."""
        root = store_folder()
        return None if root is None else limit_bytes(root)

    def shared_job(self, parts: Sequence[SharedPart]) -> SharedJob:
        """Return the job that computes some parts, all of one body."""
        inputs, draft, base = [*map(_part, parts)], parts[0].draft, _part(parts[0]).body.base
        maker = _maker(parts[0], base)
        trained = {} if maker is None else maker.settings
        # the record of a published file has `architecture` instead
        model = trained.get("model") or trained.get("architecture")
        settings: dict[str, Any] = {name: draft.settings[name] for name in (*PLACE, *_READING)}
        if maker is not None and base is None:
            settings |= {name: maker.settings[name] for name in BODY}
        elif model is not None:
            settings["model"] = model
        settings["parts"] = [
            {
                "split_list": part.split_list,
                "images": part.images,
                "views": each.passes,
                "augmentation": dict(part.augmentation),
                "corrupt": part.corrupt,
            }
            for each, part in zip(parts, inputs, strict=True)
        ]
        images = dict.fromkeys(word for part in inputs for word in part.images.split("&"))
        corrupt = {part.corrupt for part in inputs}
        # as the condition of a test; none where they differ in it
        condition = f"corrupt={corrupt.pop()}" if len(corrupt) == 1 and NONE not in corrupt else ""
        return SharedJob(
            name=f"{base or model}/{tested(draft.data or '', condition)}",
            settings=settings,
            volumes=[*self._volumes(parts, model)],
            base=base,
            data=draft.data,
            images="&".join(images),
        )

    def _volumes(self, parts: Sequence[SharedPart], model: str | None) -> Iterator[Volume]:
        width = None if model is None else spec_of(model).width
        seen: set[tuple[str, str]] = set()
        for draft, body_input in ((part.draft, _part(part)) for part in parts):
            vocabulary = self.vocabulary.with_layout(draft.settings["layout"])
            images = (body_input.split_list, body_input.images)
            count = count_images(draft, *images, vocabulary)
            size = None if count is None or width is None else count * width * ITEM_BYTES
            yield Volume(items=0 if images in seen else count, pass_bytes=size)
            seen.add(images)

    def kept(self, *, unused_s: float = 0.0) -> Kept:
        """Return the entries of the store that were not used for a number of seconds."""
        return _list_stored(unused_s, remove=False)

    def clear(self, *, unused_s: float = 0.0) -> Kept:
        """Remove these entries from the store. Jobs that read them are not affected."""
        return _list_stored(unused_s, remove=True)


def _part(part: SharedPart) -> BodyInput:
    assert isinstance(part.part, BodyInput)  # as `shared_features` made it
    return part.part


def _maker(part: SharedPart, base: str | None) -> Draft | None:
    """Return the job of this plan that determines the network of a backbone, or None if there is none."""
    if base is None:
        return part.makers[0] if part.makers else part.draft
    same_base = next((maker for maker in part.makers if maker.model == base), None)
    return same_base or (part.draft if "model" in part.draft.settings else None)


def _inputs(draft: Draft, vocabulary: DataIdResolver) -> Iterator[Input]:
    """Yield the data, and its lists."""
    for part in draft.settings["parts"]:
        images = replace(draft, images=part["images"])
        yield from data_inputs((part["split_list"],), images, vocabulary)


def _list_stored(unused_s: float, *, remove: bool) -> Kept:
    """Return the entries of the store, or those removed, that were not used for the given time."""
    root = store_folder()
    if root is None or not root.is_dir():
        return Kept(folder="" if root is None else str(root), files=0, size=0)
    last = time.time() - unused_s
    try:
        there = [view for view in views(root) if view.used_at <= last]
        gone = [view for view in there if remove_view(view)] if remove else there
    except OSError as error:
        raise MachineError(
            f"cannot clear {root}: {error.strerror}. Check the permissions of the folder."
        ) from error
    return Kept(
        folder=str(root),
        files=sum(view.files for view in gone),
        size=sum(view.bytes for view in gone),
    )


FEATURES = FeatureKind(
    name=KIND,
    role=Role.SHARED,
    summary="compute the features of a frozen backbone for several jobs",
    entry="trueface.jobs.features:features",
    settings=FeatureSettings,
    resolve_data=DataIdResolver.training_data_id,
    input_readers=(_inputs, base_inputs),
)
