import hashlib
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError, MachineError
from tests.trueface.models.build import untrained
from trueface.models.assembly import (
    keep_resolution,
    load_pretrained_state,
    published_state,
    read_state,
    resolve_weights,
    weights_sha256,
)
from trueface.models.detectors import Detector, build_detector
from trueface.models.registry import SPECS
from trueface.runtime.errors import WeightsError

torch.set_num_threads(1)  # two that wait for each other under load are slower

SHARED = Path(__file__).parents[4] / "shared/data/weights"


def state(model: Detector) -> dict[str, Tensor]:
    return dict(model.network.state_dict())


def slim(seed: int = 7) -> dict[str, Tensor]:
    return state(untrained("slim18", seed=seed))


def saved(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)


class Harmful:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.trace),))


class TestAdoption:
    @pytest.mark.parametrize("last", [1000, 0])
    def test_imagenet_file_and_one_without_last_layer_and_batch_counts_give_the_other_layers(
        self, tmp_path: Path, last: int
    ) -> None:
        source = slim() | {"fc.weight": torch.zeros(last, 128), "fc.bias": torch.zeros(last)}
        if not last:
            gone = [name for name in source if re.match(r"fc\.|.*num_batches_tracked$", name)]
            for name in gone:
                del source[name]
        model = build_detector("slim18", weights=saved(tmp_path / "file.pt", source), seed=1)
        assert torch.equal(state(model)["conv1.weight"], source["conv1.weight"])
        assert torch.equal(state(model)["fc.weight"], slim(1)["fc.weight"])

    @pytest.mark.parametrize(
        "prefix",
        [
            "module.",
            "_orig_mod.",
            "_orig_mod.module.",
            "module.module.",
            "module._orig_mod.module.",
        ],
    )
    def test_prefixes_of_torch_wrappers_are_removed(self, prefix: str, tmp_path: Path) -> None:
        wrapped = {f"{prefix}{name}": value for name, value in slim().items()}
        read = read_state(Path(saved(tmp_path / "wrapped.pt", {"state_dict": wrapped})))
        assert read.keys() == slim().keys()

    @pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel])
    def test_average_of_torch_is_read(
        self, wrap: Callable[[nn.Module], nn.Module], tmp_path: Path
    ) -> None:
        network = wrap(build_detector("slim18", weights="none", seed=3).network)
        averaged = torch.optim.swa_utils.AveragedModel(network)
        path = saved(tmp_path / "ema.pt", {"model": averaged.state_dict()})
        read = read_state(Path(path))
        assert read.keys() == slim().keys()
        model = build_detector("slim18", weights=path, seed=1)
        assert torch.equal(state(model)["conv1.weight"], read["conv1.weight"])

    def test_layer_called_n_averaged_is_kept(self, tmp_path: Path) -> None:
        state = {"n_averaged": torch.ones(1), "fc.weight": torch.ones(1, 2)}
        assert read_state(Path(saved(tmp_path / "own.pt", state))).keys() == state.keys()

    def test_negative_variance_is_refused_by_name(self, tmp_path: Path) -> None:
        broken = {**slim(), "bn1.running_var": -torch.ones_like(slim()["bn1.running_var"])}
        path = saved(tmp_path / "broken.pt", broken)
        with pytest.raises(WeightsError, match=r"bn1\.running_var has negative numbers"):
            build_detector("slim18", weights=path, seed=1)

    def test_safetensors_are_read_whatever_the_file_is_called(self, tmp_path: Path) -> None:
        safetensors = pytest.importorskip("safetensors.torch")
        for name in ("a.pth", "b.safetensors"):
            plain = {key: tensor.contiguous() for key, tensor in slim().items()}
            safetensors.save_file(plain, tmp_path / name)
            assert read_state(tmp_path / name).keys() == slim().keys()
        cut = (tmp_path / "a.pth").read_bytes()[:-40]
        (tmp_path / "a.pth").write_bytes(cut)
        with pytest.raises(WeightsError, match="cut off, or not a safetensors file"):
            read_state(tmp_path / "a.pth")

    @pytest.mark.parametrize("name", ["squeezenet", "mobilenet"])
    def test_shared_imagenet_weights_load(self, name: str) -> None:
        found = sorted(SHARED.glob(f"{name}*.pt"))
        if not found:
            pytest.skip(f"no {SHARED}")
        stored = torch.load(found[0], weights_only=True)
        model = build_detector(name, weights=str(found[0]), seed=1)
        ours = state(model)
        bodies = [n for n in stored if n.startswith("features.")]
        assert bodies
        assert all(torch.equal(ours[n], stored[n].float()) for n in bodies)
        with torch.inference_mode():
            images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
            assert model(images).isfinite().all()


def test_backbone_layers_named_classifier_are_loaded() -> None:
    network, head = nn.Sequential(), nn.Linear(4, 1)
    network.add_module("classifier", nn.Sequential(nn.LayerNorm(4), head))
    ours = head.weight.detach().clone()
    published = {
        "classifier.0.weight": torch.full((4,), 2.0),
        "classifier.0.bias": torch.full((4,), 3.0),
        "classifier.1.weight": torch.zeros(1000, 4),
        "classifier.1.bias": torch.zeros(1000),
    }
    load_pretrained_state(network, published, "weights", head="classifier.1")
    after = network.state_dict()
    assert torch.equal(after["classifier.0.weight"], published["classifier.0.weight"])
    assert torch.equal(after["classifier.1.weight"], ours)


class TestRefusal:
    def test_other_number_of_classes_is_refused(self, tmp_path: Path) -> None:
        source = slim() | {"fc.weight": torch.zeros(2, 128), "fc.bias": torch.zeros(2)}
        with pytest.raises(WeightsError, match=r"last layer of 2 classes.*remove fc\."):
            build_detector("slim18", weights=saved(tmp_path / "two.pt", source), seed=1)

    @pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 0.99])
    def test_truncated_file_is_refused(self, tmp_path: Path, share: float) -> None:
        path = tmp_path / "cut.pt"
        torch.save(slim(), path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(WeightsError, match=r"cut\.pt cannot be read safely.*--weights PATH"):
            read_state(path)

    @pytest.mark.parametrize(
        ("make", "match"),
        [
            (lambda path: path.write_text("not weights at all\n" * 100), "cannot be read safely"),
            (lambda path: path.mkdir(), "it is a folder"),
            (lambda _: None, r"w\.pt cannot be read: no such file"),
            *(
                (lambda path, content=content: torch.save(content, path), "not a state dict")
                for content in ({}, [1, 2], {"epoch": 3}, torch.zeros(3), {1: None})
            ),
        ],
    )
    def test_file_without_weights_is_refused(
        self, tmp_path: Path, make: Callable[[Path], object], match: str
    ) -> None:
        make(tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=match):
            read_state(tmp_path / "w.pt")

    @pytest.mark.parametrize("form", ["archive", "legacy", "pickle"])
    def test_malicious_pickle_is_refused_and_not_executed(self, tmp_path: Path, form: str) -> None:
        ran, path = tmp_path / "ran", tmp_path / "evil.pt"
        content = slim() | {"evil": Harmful(ran)}
        if form == "pickle":
            path.write_bytes(pickle.dumps({"evil": Harmful(ran)}, protocol=2))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
        with pytest.raises(WeightsError, match="would run code"):
            read_state(path)
        assert not ran.exists()

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_non_finite_weight_is_refused_with_tensor_name(
        self, tmp_path: Path, value: float
    ) -> None:
        broken = slim()
        broken["layer1.0.conv1.weight"][0, 0, 0, 0] = value
        with pytest.raises(WeightsError, match=r"1 of 2304 numbers of layer1\.0\.conv1\.weight"):
            read_state(Path(saved(tmp_path / "w.pt", broken)))

    @pytest.mark.parametrize(
        "tensor",
        [
            torch.ones(16, dtype=torch.int8),
            torch.ones(16, device="meta"),
        ],
    )
    def test_tensors_of_other_layout_are_refused(self, tmp_path: Path, tensor: Tensor) -> None:
        path = saved(tmp_path / "w.pt", slim() | {"bn1.weight": tensor})
        with pytest.raises(WeightsError, match=r"bn1\.weight is torch\..* expected a plain tensor"):
            read_state(Path(path))

    def test_unavailable_weights_are_an_error_with_both_remedies(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def offline(*_args: object, **_more: object) -> None:
            raise URLError("no route to host")

        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
        with pytest.raises(WeightsError) as caught:
            build_detector("baseline18", weights="default", seed=1)
        assert caught.value.exit_code == MachineError.exit_code == 3
        assert "--weights PATH" in str(caught.value)
        assert "TRUEFACE_WEIGHTS=none" in str(caught.value)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where torch keeps the published weights of MobileNet, in an empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    spec = SPECS["mobilenet"]
    assert spec.weights_url is not None
    path = tmp_path / "hub/checkpoints" / Path(spec.weights_url).name
    path.parent.mkdir(parents=True)
    return path


def test_cached_weights_with_other_digest_are_refused_by_name(cached: Path) -> None:
    promised = cached.stem.rpartition("-")[2]
    saved(cached, {"conv1.weight": torch.zeros(3)})
    found = hashlib.sha256(cached.read_bytes()).hexdigest()[: len(promised)]
    with pytest.raises(WeightsError) as caught:
        build_detector("mobilenet", weights="default", seed=1)
    assert f"{cached} is damaged or another file" in str(caught.value)
    assert f"begins with {found}, not with {promised}. Delete it" in str(caught.value)


def test_cached_weights_with_digest_of_their_name_are_read(cached: Path) -> None:
    saved(cached, {"conv1.weight": torch.zeros(3)})
    digest = hashlib.sha256(cached.read_bytes()).hexdigest()[:8]
    named = cached.rename(cached.with_name(f"some-{digest}.pth"))
    assert published_state(f"https://example.invalid/{named.name}").keys() == {"conv1.weight"}


def test_unreadable_cached_weights_without_digest_are_named(cached: Path) -> None:
    cut = cached.with_name("some.pth")
    cut.write_bytes(b"PK\3\4 no more")
    with pytest.raises(WeightsError, match=r"some\.pth cannot be read: .*\. Delete the file"):
        published_state(f"https://example.invalid/{cut.name}")


def test_environment_variable_replaces_only_the_default() -> None:
    environment = {"TRUEFACE_WEIGHTS": "none"}
    assert resolve_weights("default", environment) == "none"
    assert resolve_weights("mine.pt", environment) == "mine.pt"
    assert resolve_weights("default", {}) == "default"


def test_checksum_is_that_of_file_and_random_weights_have_none(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", slim())
    assert weights_sha256("slim18", path) == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert weights_sha256("slim18", "none") is None
    assert weights_sha256("slim18", "default") is None
    with pytest.raises(WeightsError, match="cannot be read"):
        weights_sha256("slim18", str(tmp_path / "absent.pt"))


torch.set_num_threads(1)


class Branches(nn.Module):
    """Two convolutions that read the image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 4, 3, stride=2, padding=1) for _ in range(2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.first(images) + self.second(images)
        return made.mean((1, 2, 3)).view(-1, 1)


@pytest.mark.parametrize("name", ["mobilenet", "patch/squeezenet"])
def test_maps_of_other_networks_double_in_size(name: str) -> None:
    sides = []
    for nodown in (False, True):
        network = untrained(name, nodown=nodown).network
        first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
        shapes = list[int]()
        first.register_forward_hook(lambda *call, shapes=shapes: shapes.append(call[2].shape[-1]))
        with torch.inference_mode():
            network(torch.rand(1, 3, 64, 64))
        sides += shapes
    assert sides[1] in {2 * sides[0], 2 * sides[0] - 1, 2 * sides[0] + 1}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("slim18", r"conv1 of slim18 has stride 1 and kernel 3. Leave nodown out"),
        ("srmconv", r"blocks\.0\.0 of srmconv has stride 1"),
        ("mesonet", r"blocks\.0 of mesonet has stride 1"),
    ],
)
def test_network_without_strided_layer_is_refused_with_reason(name: str, reason: str) -> None:
    with pytest.raises(JobError, match=reason):
        untrained(name, nodown=True)


def test_network_with_several_first_layers_is_refused() -> None:
    with pytest.raises(JobError, match=r"begins with 2 convolutions \(first, second\)"):
        keep_resolution(Branches(), "branches", None)


def test_network_without_convolution_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(1))
    with pytest.raises(JobError, match="begins with none"):
        keep_resolution(network, "flat", 32)
