"""Features of a frozen backbone as unlearning methods read them."""

from pathlib import Path

import pytest

from tests.trueface.conftest import Tree
from trueface.data.examples import CostCounter
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.features.store import FeatureStore
from trueface.models import detectors
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext
from trueface.unlearning.head_features import feature_source
from trueface.unlearning.settings import UnlearningSettings

COUNT = 4


@pytest.fixture
def images(tree: Tree) -> tuple[Image, ...]:
    root = tree([f"PreSocial/Real/FFHQ/{number:05}.png" for number in range(COUNT)])
    paths = sorted(root.rglob("*.png"))
    return tuple(Image(str(path), f"FFHQ/{path.stem}", 0, "FFHQ", "pre") for path in paths)


def test_stop_during_feature_computation_is_not_an_empty_pass(
    images: tuple[Image, ...], tmp_path: Path
) -> None:
    given = UnlearningSettings(
        data_root="data", split_path="splits", method="exact", model="slim18", weights="none",
        freeze=True, resize_size=12, flip_prob=0.5,
    )  # fmt: skip
    both, watch = (train_loader(images, given), eval_loader(images, given)), RunContext()
    model = detectors.build_detector("slim18", weights="none", seed=1)
    store = FeatureStore(tmp_path, limit_bytes=1 << 30)
    source = feature_source(*both, model, given, watch, meter=CostCounter(), store=store)
    watch.stop.set()
    with pytest.raises(JobError, match="stopped"):
        list(source.train_loader.iter_positions(range(COUNT), 0, batch_size=2))
