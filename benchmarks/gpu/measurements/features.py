"""Speed of the feature store on a GPU: filling, reading, and trainings of a frozen backbone."""

import os
from collections.abc import Sequence

import torch

from benchmarks.gpu.bench import Bench, NotMeasured
from benchmarks.gpu.measurements.networks import Case, cases, exact_float32, rate
from benchmarks.gpu.measurements.training import (
    LOADED,
    images_of,
    loader_alone,
    renamed,
)
from trueface.data.index import Image
from trueface.features.store import FeatureStore, open_store
from trueface.models.inference import FrozenBackbone
from trueface.runtime.progress import RunContext
from trueface.runtime.timer import now
from trueface.training.parts.bank import build_feature_feeds
from trueface.training.trainer import fit

EPOCHS = 3  # epochs of a frozen training: as many views are stored
SECONDS = 1.0
LOGIT = 1e-4  # largest difference that the store may make
IMAGES = 1280


def measure(bench: Bench) -> None:
    """Fill the store, read it, train from it, and compare logits.

    Raises:
        NotMeasured: This machine cannot have a feature store.
    """
    os.environ["TRUEFACE_CACHE"] = str(bench.path / "cache")
    case = cases(bench)[0]
    pictures = images_of(case)[: bench.size(IMAGES, 8)]
    _rates(case, pictures, _store())
    _training(case, pictures, _store())
    _logits(Case(bench=bench, side=case.side, precision="fp32"), pictures[:8], _store())


def _store() -> FeatureStore:
    store = open_store()
    if store is None:
        raise NotMeasured("there can be no feature store here")
    return store


def _body(case: Case) -> FrozenBackbone:
    return FrozenBackbone(case.network(), device=case.bench.device, precision=case.precision)


def _rates(case: Case, pictures: Sequence[Image], store: FeatureStore) -> None:
    """Fill one view, and read it again; compare the computation with the loader and with the network."""
    bench, body, batch = case.bench, _body(case), case.batch()

    def passed() -> int:
        body(batch.inputs)
        return len(batch.labels)

    card = rate(passed, 0.05 if bench.rehearsal else SECONDS)
    seconds = [_fill(case, pictures, body, store) for _ in range(2)]
    first, again = (len(pictures) / each for each in seconds)
    bench.row(
        f"{case.name}: features computed and stored", first, "images/s",
        card_alone=card, read_again=again,
    )  # fmt: skip
    # the difference of two passes is without the start of the loading processes
    count, most = len(pictures), bench.size(LOADED, 24)
    few, others = renamed(pictures, count, count), renamed(pictures, most, 2 * count)
    spent = _fill(case, few, body, store)
    speed = (most - count) / (_fill(case, others, body, store) - spent)
    loader = loader_alone(case.training(others), case)
    bench.row(f"{case.name}: features of many images", speed, "images/s")
    bench.row(f"{case.name}: loader of features alone", loader, "images/s")
    bench.row(f"{case.name}: features, share of loader or card", speed / min(loader, card))


def _fill(
    case: Case, pictures: Sequence[Image], body: FrozenBackbone, store: FeatureStore
) -> float:
    """Let the store compute the features of images that it lacks; return the seconds."""
    began = now()
    matrix = store.matrix(body, case.training(pictures), 0, watch=case.watch())
    matrix.take(range(len(matrix.positions)))
    return now() - began


def _training(case: Case, pictures: Sequence[Image], store: FeatureStore) -> None:
    """Train the last layer twice: the second time all views are stored."""
    settings = case.settings(EPOCHS).model_copy(update={"freeze": True, "seed": 2})
    seconds = []
    for _ in range(2):
        model, watch = (
            case.network(),
            RunContext(device=case.bench.device, precision=case.precision),
        )
        feeds = case.training(pictures), case.testing(pictures[: len(pictures) // 8])
        began = now()
        fit(
            model,
            *build_feature_feeds(model, *feeds, settings, watch, store=store),
            settings.trainer,
            watch=watch,
        )
        seconds.append(now() - began)
    case.bench.row(
        f"{case.name}: frozen training of {EPOCHS} epochs, first · from the store",
        seconds[0] / seconds[1], "times as quick", first_s=seconds[0], from_the_store_s=seconds[1],
    )  # fmt: skip


def _logits(case: Case, pictures: Sequence[Image], store: FeatureStore) -> None:
    """Compare logits of stored features with those of the plain network."""
    model = case.network().eval()
    body = FrozenBackbone(model, device=case.bench.device, precision="fp32")
    feed = case.testing(pictures)
    with exact_float32(), torch.no_grad():
        matrix = store.matrix(body, feed, 0, watch=case.watch())
        features = torch.from_numpy(matrix.take(range(len(pictures)))).to(case.bench.device)
        (batch,) = feed.iter_positions(range(len(pictures)), 0, batch_size=len(pictures))
        plain = model(batch.inputs.to(case.bench.device))
        far = float((model.forward_head(features) - plain).abs().max())
    case.bench.row("largest difference of a logit, fp32", far, holds=far <= LOGIT, most=LOGIT)
