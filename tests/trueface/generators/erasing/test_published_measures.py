"""FID, KID and CLIP score by torchmetrics, compared with our own distance."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trueface.generators.erasing.build import write_clip, write_inception
from trueface.generators.erasing.published_measures import PublishedMeasures, published_measures
from trueface.generators.erasing.registry import unavailable_measures
from trueface.generators.image_measures import frechet_distance
from trueface.runtime.errors import CheckpointError, JobError
from trueface.runtime.progress import RunContext

WHY = "the extra `metrics` is not installed (not beside our tests: torch-fidelity brings a package `tests`)"
pytest.importorskip("torchmetrics", reason=WHY)
pytest.importorskip("torch_fidelity", reason=WHY)
# warnings of packages that are not ours
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
TEXTS = ["a photo of a cross", "a photo of a disc"] * 6


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inception(tmp_path_factory.mktemp("inception") / "inception.pth")


@pytest.fixture(scope="module")
def inception(weights: Path) -> PublishedMeasures:
    return published_measures(weights, None, "cpu")


def random_images(seed: int, channels: int = 3) -> Tensor:
    shape = (12, channels, 16, 16)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def features(measures: PublishedMeasures, images: Tensor) -> Tensor:
    levels = ((images + 1) * 127.5).round().to(torch.uint8)
    found: Tensor = measures.inception(levels.expand(-1, 3, -1, -1))
    return found


def test_fid_equals_frechet_distance_of_inception_features(inception: PublishedMeasures) -> None:
    student, teacher = random_images(1), random_images(2)
    found = inception.compute_published(student, teacher, TEXTS, 1, RunContext())
    ours = frechet_distance(features(inception, student), features(inception, teacher))
    assert found["fid"] == pytest.approx(ours, rel=1e-3)
    assert ours > 1e-3
    assert set(found) == {"fid", "kid"}


def test_stop_ends_measures_between_two_batches(inception: PublishedMeasures) -> None:
    watch = RunContext()
    watch.stop.set()
    with pytest.raises(JobError, match="stopped"):
        inception.compute_published(random_images(1), random_images(2), TEXTS, 1, watch)


def test_equal_images_have_zero_distance_and_seed_selects_subsets(
    inception: PublishedMeasures,
) -> None:
    grey = random_images(1, channels=1)
    before = torch.random.get_rng_state()
    same = inception.compute_published(grey, grey, TEXTS, 1, RunContext())
    assert same["fid"] == pytest.approx(0, abs=1e-3)
    assert same == inception.compute_published(grey, grey, TEXTS, 1, RunContext())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_with_code_and_other_networks_are_rejected(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"inception: weights .*evil\.pth cannot be read"):
        published_measures(tmp_path / "evil.pth", None, "cpu")
    assert not (tmp_path / "executed").exists()
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(
        CheckpointError, match=r"other\.pth do not fit torch-fidelity's InceptionV3"
    ):
        published_measures(tmp_path / "other.pth", None, "cpu")


def test_clip_score_is_mean_cosine_of_images_and_class_names(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason=WHY)
    from safetensors.torch import load_file, save_file

    measures = published_measures(None, write_clip(tmp_path / "clip"), "cpu")
    images = random_images(1)
    found = measures.compute_published(images, images, TEXTS, 1, RunContext())
    assert set(found) == {"clip_score"}
    assert -1 <= found["clip_score"] <= 1
    projections, processor = measures.clip
    levels = list(((images + 1) * 127.5).round().to(torch.uint8))
    given = processor(text=TEXTS, images=levels, return_tensors="pt", padding=True)
    with torch.no_grad():
        whole = projections.model(**given)  # both embeddings of length 1
    cosines = (whole.image_embeds * whole.text_embeds).sum(-1)
    assert found["clip_score"] == pytest.approx(float(cosines.mean()), abs=1e-5)
    with pytest.raises(CheckpointError, match=r"clip: .* is not a CLIP model"):
        published_measures(None, tmp_path, "cpu")
    file = tmp_path / "clip" / "model.safetensors"
    state = load_file(file)
    del state["text_projection.weight"]
    save_file(state, file, {"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"clip: weights .* missing in .*text_projection\.weight"
    ):
        published_measures(None, tmp_path / "clip", "cpu")


def test_no_package_is_missing_if_all_are_installed() -> None:
    assert not list(unavailable_measures(inception=True, clip=False))
