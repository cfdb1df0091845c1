"""A published checkpoint gives the scores that its authors' code gives, and a wrong one is refused."""

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import transforms
from torchvision.models import (
    VisionTransformer,
    inception_v3,
    resnet18,
    shufflenet_v2_x0_5,
    vision_transformer,
    vit_b_32,
)

from launcher.api import JobError, Json, UsageError
from launcher.experiments.kinds import installed_kinds
from launcher.experiments.planning.plan_builder import build_plan
from launcher.experiments.taskfile.parser import ParseContext, parse
from tests.trueface.commands import Command
from tests.trueface.jobs.build import a_draft, a_job, job_of, plan_text, write_lists
from tests.trueface.models.build import KAIMING, draw_no_weights
from trueface.data.augmentations.steps import Window
from trueface.data.loading.preprocessing import Preprocessing
from trueface.jobs import testing, training
from trueface.jobs.benchmark.benchmarking import benchmark
from trueface.jobs.published.adoption import adopt
from trueface.jobs.published.kind import CHECKPOINT
from trueface.models import checkpoint
from trueface.models.detectors import Detector
from trueface.models.published_settings import PublishedSettings
from trueface.prediction.heat_map import By, HeatMaps
from trueface.prediction.predictor import Prediction, Predictor
from trueface.predictions.csv_tables import read_csv
from trueface.runtime import image_files, paths
from trueface.runtime.errors import CheckpointError, DataError, WeightsError
from trueface.training.checkpointing import TrainingStart, init_model
from trueface.training.settings import TrainSettings

torch.set_num_threads(1)

SHARED = Path(__file__).parents[5] / "shared/data"
MODEL, DATA = "published:theirs", "gan2:pre&real:pre"
SMALL = "tv/shufflenet_v2_x0_5"  # the smallest network of torchvision that ends with a linear layer
# width, height and file format of the images; the network's crop is smaller and larger than some
FILES = ((40, 56, "png"), (61, 33, "jpg"), (48, 48, "jpg"), (90, 70, "png"))
FOLDERS = ("Fake/StyleGAN2/conf-f-psi-1", "Real/FFHQ")
State = dict[str, Tensor]
Preprocess = Callable[[PIL.Image.Image], Tensor]


def image_tree(root: Path, copies: int = 1) -> Path:
    """Write photographs where they are at hand, otherwise smooth noise, of several sizes."""
    rng, keys, shared = (
        np.random.default_rng(3),
        [],
        sorted(SHARED.glob("groups/utkface/*/*.jpg")),
    )
    for folder in FOLDERS:
        for number, (width, height, form) in enumerate(FILES * copies):
            small = rng.integers(0, 256, (8, 8, 3), np.uint8)
            image = PIL.Image.open(shared[number]) if shared else PIL.Image.fromarray(small)
            if folder.startswith("Fake"):
                image = image.transpose(PIL.Image.Transpose.FLIP_TOP_BOTTOM)
            path = root / "data/PreSocial" / folder / f"{number:05}.{form}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.convert("RGB").resize((width, height), PIL.Image.Resampling.BICUBIC).save(path)
            keys.append(f"{folder.split('/', 1)[1]}/{number:05}")
    write_lists(root / "splits", train=[], val=[], test=keys)
    return root


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_tree(tmp_path_factory.mktemp("lab"))


@pytest.fixture(autouse=True)
def quick_initial_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks begin with constant weights, which a file then replaces."""
    draw_no_weights(monkeypatch, KAIMING)


@cache
def network(logits: int) -> nn.Module:
    """A network with statistics of batch norms that matter."""
    made = shufflenet_v2_x0_5(num_classes=logits)
    torch.manual_seed(0)
    for weights in made.parameters():
        if weights.dim() > 1:
            nn.init.xavier_normal_(weights, gain=2**0.5)
    count_whole_batches(made)
    return with_statistics(made)


def count_whole_batches(made: nn.Module) -> None:
    """Let batch norms take the statistics of a batch, so that images differ in the last layer."""
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None


def with_statistics(made: nn.Module) -> nn.Module:
    made.train()
    with torch.no_grad():
        made(torch.rand(8, 3, 64, 64) * 2 - 1)
    return made.eval()


def adopted(
    lab: Path, content: object, name: str = "theirs.pth", **settings: Any
) -> Mapping[str, Json]:
    if name.endswith(".safetensors"):
        assert isinstance(content, dict)
        save_file(content, lab / name)
    else:
        torch.save(content, lab / name)
    given = {"architecture": SMALL, "weights": name, "crop": 32, **settings}
    return adopt(job_of(a_draft(CHECKPOINT, lab, given, model=MODEL, data=MODEL), CHECKPOINT))


def scored(lab: Path, **settings: Any) -> dict[str, float]:
    """Return the probability of fake of each test image, by its path."""
    given = {"data_root": "data", "split_path": "splits", "batch_size": 3, **settings}
    testing.test(a_job(lab, "test", MODEL, data=DATA, settings=given))
    table = read_csv(paths.scores(lab / "runs/study" / MODEL, MODEL, DATA))
    return dict(zip(table.ids, torch.tensor(table.margin).sigmoid().tolist(), strict=True))


def expected(
    lab: Path,
    preprocess: Preprocess,
    probability: Callable[[Tensor], Tensor],
    spread: float = 0.01,  # 1,000 times the tolerance
) -> dict[str, float]:
    """Return the same by plain torchvision."""
    scores = {}
    for path in sorted((lab / "data").rglob("*.*")):
        with PIL.Image.open(path) as image, torch.no_grad():
            pixels = preprocess(image.convert("RGB"))
            scores[path.relative_to(lab / "data").as_posix()] = float(probability(pixels[None]))
    assert max(scores.values()) - min(scores.values()) > spread
    return scores


IMAGENET = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CROP = transforms.Compose([transforms.CenterCrop(32), transforms.ToTensor(), IMAGENET])
CLIP_MEAN, CLIP_STD = (
    [0.48145466, 0.4578275, 0.40821073],
    [0.26862954, 0.26130258, 0.27577711],
)


@cache
def plain_scores(lab: Path, logits: int, fake_is_first: bool) -> Mapping[str, float]:
    """Return the scores of the small network, by plain torchvision."""

    def probability(pixels: Tensor) -> Tensor:
        found: Tensor = network(logits)(pixels)
        if logits == 2:
            return found.softmax(1)[0, 0 if fake_is_first else 1]
        return (-found if fake_is_first else found).sigmoid()[0, 0]

    return expected(lab, CROP, probability)


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def outer_head(state: Mapping[str, Tensor], body: str, head: str) -> State:
    """The names of a network whose last layer is beside it."""
    return {
        name.replace("fc.", head) if name.startswith("fc.") else body + name: tensor
        for name, tensor in state.items()
    }


def named_head(state: Mapping[str, Tensor]) -> State:
    return {name.replace("fc.", "fc.1."): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("settings", "wrap", "file"),
    [
        ({}, dict, "a.pth"),
        ({"logits": 2}, dict, "a.pth"),
        ({"classes": "fake,real"}, dict, "a.pth"),
        ({"classes": "fake,real", "logits": 2}, dict, "a.pth"),
        ({}, lambda state: {"model": state, "optimizer": {"state": {}}, "total_steps": 9}, "a.pth"),
        ({"key": "nets.ema"}, lambda state: {"nets": {"ema": state, "raw": {}}}, "a.pth"),
        ({}, lambda state: prefixed(state, "module.backbone."), "a.pth"),
        (
            {"prefix": "model."},
            lambda state: {
                **prefixed(state, "model."),
                **prefixed(state, "ema."),
                "scale": torch.ones(1),
            },
            "a.pth",
        ),
        ({"head": "fc.1", "logits": 2}, named_head, "a.pth"),
        (
            {"head": "head", "logits": 2},
            lambda state: outer_head(state, "backbone.", "head."),
            "a.pth",
        ),
        (
            {"head": "head", "prefix": "backbone."},
            lambda state: outer_head(state, "backbone.", "head.") | {"loss.w": torch.ones(1)},
            "a.pth",
        ),
        ({"head": "1"}, lambda state: outer_head(state, "0.", "1."), "a.pth"),
        ({}, dict, "a.safetensors"),
        ({}, lambda state: {n: t for n, t in state.items() if not n.endswith("tracked")}, "a.pth"),
    ],
    ids=[
        "plain",
        "plain-two-logits",
        "swapped",
        "swapped-two-logits",
        "key",
        "inner-key",
        "prefix",
        "two-networks",
        "head",
        "head-outside",
        "head-outside-of-a-given-prefix",
        "sequential",
        "safetensors",
        "uncounted",
    ],
)
def test_scores_are_those_of_plain_torch(
    lab: Path, settings: dict[str, Any], wrap: Callable[[State], Any], file: str
) -> None:
    logits = settings.get("logits", 1)
    adopted(lab, wrap(state(logits)), file, **{"logits": 1, **settings})
    wanted = plain_scores(lab, logits, settings.get("classes") == "fake,real")
    assert scored(lab) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("installed", [True, False], ids=["reader", "no-reader"])
def test_heic_twin_of_a_listed_image_changes_no_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, installed: bool
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heif` is not installed")
    lab = image_tree(tmp_path)
    adopted(lab, state())
    before = scored(lab)
    listed = next((lab / "data").rglob("*.jpg"))
    pillow_heif.from_pillow(PIL.Image.open(listed)).save(str(listed.with_suffix(".heic")))
    if not installed:
        monkeypatch.setitem(image_files._MODULES, "HEIF", "no_such_module")
    image_files._reader_fault.cache_clear()
    try:
        assert scored(lab) == before
    finally:
        image_files._reader_fault.cache_clear()
    assert len(before) == 2 * len(FILES)


RESIZED = [
    ({"resize": 36}, [transforms.Resize(36), transforms.CenterCrop(32)]),
    (
        {"resize": 32, "squash": True, "interpolation": "bicubic"},
        [transforms.Resize((32, 32), transforms.InterpolationMode.BICUBIC)],
    ),
    (
        {"resize": 80, "interpolation": "lanczos", "crop": 64},
        [transforms.Resize(80, transforms.InterpolationMode.LANCZOS), transforms.CenterCrop(64)],
    ),
    (
        {"resize": 32, "interpolation": "nearest"},
        [transforms.Resize(32, transforms.InterpolationMode.NEAREST), transforms.CenterCrop(32)],
    ),
    ({"crop": 64}, [transforms.CenterCrop(64)]),
]


@pytest.mark.parametrize(("settings", "steps"), RESIZED, ids=lambda each: str(each)[:24])
def test_preprocessing_is_that_of_torchvision(
    lab: Path, settings: dict[str, Any], steps: list[Any]
) -> None:
    theirs = network(1)
    adopted(lab, theirs.state_dict(), mean=CLIP_MEAN, std=CLIP_STD, **settings)
    whole = transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize(CLIP_MEAN, CLIP_STD)]
    )
    wanted = expected(lab, whole, lambda pixels: theirs(pixels).sigmoid()[0, 0])
    # the test's own crop and patches have no effect
    assert scored(lab, resize_size=16, test_crops=4, patch_size=16) == pytest.approx(
        wanted, abs=1e-5
    )
    predictor = Predictor.load(paths.checkpoint(lab / "runs/study" / MODEL))
    files = sorted((lab / "data").rglob("*.*"))
    found = [
        each.probability for each in predictor.predict_files(files) if isinstance(each, Prediction)
    ]
    assert found == pytest.approx(
        [wanted[str(file.relative_to(lab / "data"))] for file in files], abs=1e-5
    )


def test_xception_with_the_names_of_deepfakebench(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.undo()
    torch.manual_seed(1)
    theirs = with_statistics(timm.create_model("legacy_xception", num_classes=2))
    draw_no_weights(monkeypatch, KAIMING)
    nn.init.normal_(theirs.get_parameter("fc.weight"), std=50)
    names = {
        f"backbone.{name.replace('fc.', 'last_linear.')}": tensor
        for name, tensor in theirs.state_dict().items()
    }
    unused = {"backbone.adjust_channel.0.weight": torch.zeros(512, 2048, 1, 1)}
    given: dict[str, Any] = {
        "head": "last_linear",
        "ignore": ["adjust_channel"],
        "logits": 2,
        "crop": 64,
        "resize": 64,
    }
    adopted(lab, names | unused, architecture="timm/legacy_xception", squash=True, **given)
    half = transforms.Normalize([0.5] * 3, [0.5] * 3)
    whole = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor(), half])
    wanted = expected(lab, whole, lambda pixels: theirs(pixels).softmax(1)[0, 1], 0.003)
    assert scored(lab) == pytest.approx(wanted, abs=1e-5)


def test_threshold_and_origin_are_recorded(lab: Path) -> None:
    result = adopted(lab, prefixed(network(1).state_dict(), "module."), threshold=0.8)
    kept = checkpoint.load(paths.checkpoint(lab / "runs/study" / MODEL))
    assert kept.provenance["calibration"] == {
        "temperature": 1.0, "threshold": pytest.approx(np.log(4)), "in_logits": False,
    }  # fmt: skip
    assert kept.provenance["weights_sha256"] == result["weights_sha256"]
    assert (result["prefix"], result["parameters"]) == ("module.", PARAMETERS)


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("/tmp/never-made-by-a-checkpoint",))


def state(logits: int = 1) -> State:
    return dict(network(logits).state_dict())


def resnet_state() -> State:
    return dict(resnet18(num_classes=1).state_dict())


TENSORS, PARAMETERS = 338, 342_817  # numbers of the small network

WRONG: dict[str, tuple[Callable[[], object], dict[str, Any], list[str]]] = {
    "code": (lambda: {"model": state(), "args": Harmful()}, {}, ["would run code", "(it needs posix.mkdir)", "state dict"]),
    "two-logits": (lambda: state(2), {}, ["with 2 logits, but the setting logits is 1. Set logits: 2."]),
    "one-logit": (lambda: state(1), {"logits": 2}, ["with 1 logit, but the setting logits is 2. Set logits: 1."]),
    "imagenet": (lambda: state(1000), {}, ["with 1000 logits", "another task"]),
    "other-network": (
        resnet_state,
        {"architecture": "tv/resnet34"},
        ["80 missing (layer1.2.conv1.weight, ", "They fit architecture:", "tv/resnet18"],
    ),
    "shapes": (
        lambda: state() | {"conv1.0.weight": torch.zeros(24, 3, 1, 1)},
        {},
        ["1 with another shape (conv1.0.weight (24, 3, 1, 1) instead of (24, 3, 3, 3))", "The other 279 tensors fit",
         "another version of tv/shufflenet_v2_x0_5, or incomplete. Get it again"],
    ),
    "missing-and-unknown": (
        lambda: {n.replace("conv5.", "conv9."): t for n, t in state().items()},
        {},
        ["missing (conv5.0.weight, conv5.1.weight, ", "6 unknown (conv9.0.weight, "],
    ),
    "strange-names": (
        lambda: {n.replace("stage", "encoder.layer"): t for n, t in state().items()},
        {},
        ["unknown (encoder.layer2.0.branch1.0.weight", "Set architecture"],
    ),
    "other-names-too": (
        lambda: prefixed(state(), "model.") | {"loss.weight": torch.ones(2)},
        {},
        ["1 unexpected names do not (loss.weight)", "set prefix: 'model.'"],
    ),
    "two-copies": (
        lambda: prefixed(state(), "model.") | prefixed(state(), "ema."),
        {},
        ["2 networks of this architecture", "'ema.', 'model.'"],
    ),
    "two-dicts": (
        lambda: {"model": state(), "ema": state()},
        {},
        ["several state dicts", f"model ({TENSORS} tensors), ema ({TENSORS} tensors)", "key: model"],
    ),
    "wrong-key": (
        lambda: {"model": state(), "epoch": 3},
        {"key": "net"},
        ["the key 'net' is not a state dict", f"model ({TENSORS} tensors), epoch"],
    ),
    "needless-key": (state, {"key": "model"}, ["leave key out"]),
    "wrong-prefix": (state, {"prefix": "module."}, ["the prefix 'module.' is not in the file"]),
    "no-state": (lambda: [1, 2], {}, ["no state dict", "a list"]),
    "named-head": (lambda: named_head(state()), {}, ["'fc' is missing. Set head, such as head: fc.1."]),
    "head-outside": (
        lambda: outer_head(state(), "backbone.", "head."),
        {},
        ["2 unexpected names do not (head.weight, head.bias)", "set head, such as head: head."],
    ),
    "head-outside-of-the-prefix": (
        lambda: outer_head(state(), "backbone.", "head."),
        {"prefix": "backbone."},
        ["the last layer 'fc' is missing. Set head, such as head: head."],
    ),
    "no-head": (
        lambda: {name: tensor for name, tensor in state().items() if not name.startswith("fc.")},
        {"head": "head"},
        ["'head' is missing. The file has no linear layer of the 1024 features", "Set architecture"],
    ),
    "wrong-head": (state, {"head": "classifier"}, ["'classifier' is missing", "head: fc"]),
    "extra-part": (
        lambda: state() | {"adjust.0.weight": torch.zeros(3), "adjust.0.bias": torch.zeros(3)},
        {},
        ["2 unknown (adjust.0.weight, adjust.0.bias)", "set ignore: adjust."],
    ),
    "wrong-part": (state, {"ignore": "adjust"}, ["'adjust' is not a part of the file"]),
    "head-only": (
        lambda: {"weight": torch.zeros(1, 768), "bias": torch.zeros(1)},
        {},
        ["only a last layer (weight (1, 768), bias (1,))", "linear/NETWORK"],
    ),
    "repeated-numbers": (
        lambda: state() | {"extra.weight": torch.zeros(1).expand(10**7, 10**5)},
        {},
        ["extra.weight (10000000, 100000) repeats its numbers", "4,000,000,000,000 bytes, but the file has 4"],
    ),
    "shared-numbers": (
        lambda: state() | dict.fromkeys([f"w{number}" for number in range(200)], torch.zeros(10**6)),
        {},
        ["its tensors share their numbers. They need 801,", "clone()"],
    ),
    "shape-of-the-head": (
        lambda: state() | {"fc.weight": torch.zeros(1, 1024, 1, 1)},
        {},
        ["fc.weight (1, 1024, 1, 1) instead of (1, 1024)). Only the last layer 'fc' differs. It must be "
         "linear: a weight (1, 1024)"],
    ),
    "shape-of-the-bias": (
        lambda: state() | {"fc.bias": torch.zeros(2)},
        {},
        ["1 with another shape (fc.bias (2,) instead of (1,)). Only the last layer 'fc' differs."],
    ),
    "control-characters": (
        lambda: state() | {"\x1b[31m\nname": torch.zeros(1)},
        {},
        ["1 unknown (\\x1b[31m\\nname)"],
    ),
    "long-names": (
        lambda: state() | {"long" * 10**5: torch.zeros(1)},
        {},
        [f"1 unknown ({'long' * 29}lon…)"],
    ),
    "control-characters-in-keys": (
        lambda: {"\x1b[31m": state(), "\n": state(), "epoch" * 10**5: 3},
        {},
        [rf"Its keys: \x1b[31m ({TENSORS} tensors), \n ({TENSORS} tensors), epochepoch"],
    ),
    "not-finite": (
        lambda: state() | {"fc.bias": torch.tensor([float("nan")])},
        {},
        ["1 of 1 numbers of fc.bias are not finite", "Get the file from its authors again"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_file_is_refused_with_a_remedy(tmp_path: Path, name: str) -> None:
    content, settings, words = WRONG[name]
    with pytest.raises(WeightsError) as refused:
        adopted(tmp_path, content(), **settings)
    message = str(refused.value)
    assert "theirs.pth" in message
    assert [word for word in words if word not in message] == [], message
    assert "They fit" not in message or name == "other-network"
    assert message.isprintable()
    assert len(message) < 1500
    assert not Path("/tmp/never-made-by-a-checkpoint").exists()
    assert not paths.checkpoint(tmp_path / "runs/study" / MODEL).exists()


def test_crop_that_the_network_does_not_accept_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(JobError, match="multiple of 16 pixels, got 40"):
        adopted(tmp_path, state(), architecture="timm/vit_tiny_patch16_224", crop=40)


def shallow(**given: Any) -> nn.Module:
    """Return a transformer of torchvision with one layer instead of twelve."""
    made: nn.Module = VisionTransformer(**{**given, "num_layers": 1})
    return made


@pytest.mark.parametrize(
    ("architecture", "side"), [("timm/vit_tiny_patch16_224", 48), ("tv/vit_b_32", 64)]
)
def test_file_for_images_of_another_size_is_refused_with_the_crop_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, side: int
) -> None:
    library, name = architecture.split("/")
    if library == "timm":
        timm = pytest.importorskip("timm")
        theirs = timm.create_model(name, num_classes=1, img_size=side)
    else:
        monkeypatch.setattr(vision_transformer, "VisionTransformer", shallow)
        theirs = vit_b_32(num_classes=1, image_size=side)
    content = theirs.state_dict()
    with pytest.raises(WeightsError, match=f"another size than crop 96. Set crop to {side}"):
        adopted(tmp_path, content, architecture=architecture, crop=96)
    adopted(tmp_path, content, architecture=architecture, crop=side)


def test_inception_of_torchvision_has_the_scores_of_timm(lab: Path) -> None:
    pytest.importorskip("timm")
    torch.manual_seed(1)
    theirs = inception_v3(num_classes=1, init_weights=False, transform_input=True, aux_logits=False)
    count_whole_batches(theirs)
    with torch.no_grad():
        theirs.train()(torch.rand(4, 3, 96, 96) * 2 - 1)
    theirs.eval()
    whole = transforms.Compose([transforms.CenterCrop(96), transforms.ToTensor(), IMAGENET])
    logits = expected(lab, whole, lambda pixels: theirs(pixels)[0, 0], spread=0)
    most = max(map(abs, logits.values()))
    with torch.no_grad():  # probabilities that are not all 0 or 1
        for part in ("weight", "bias"):
            theirs.get_parameter(f"fc.{part}").div_(most)
    half = [0.5] * 3  # to which its own code rescales
    adopted(
        lab, theirs.state_dict(), architecture="timm/inception_v3", crop=96, mean=half, std=half
    )
    wanted = {path: 1 / (1 + math.exp(-logit / most)) for path, logit in logits.items()}
    assert max(wanted.values()) - min(wanted.values()) > 0.01
    assert scored(lab) == pytest.approx(wanted, abs=1e-5)


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    given = {"architecture": SMALL, "weights": "cut.pth"}
    draft = a_draft(CHECKPOINT, tmp_path, given, model=MODEL, data=MODEL)
    with pytest.raises(WeightsError, match="cut off, or not a file of tensors"):
        adopt(job_of(draft, CHECKPOINT))


def bright(sign: float) -> State:
    """The weights of a network whose logit grows with the brightness of an image, or falls."""
    weights = {name: torch.zeros_like(tensor) for name, tensor in resnet_state().items()}
    for name in weights:
        if name.endswith(("running_var", "bn1.weight", "bn2.weight", "downsample.1.weight")):
            weights[name] += 1
    weights["conv1.weight"][0, :, 3, 3] = 1
    weights["layer2.0.downsample.0.weight"][0, 0] = 1
    weights["layer3.0.downsample.0.weight"][0, 0] = 1
    weights["layer4.0.downsample.0.weight"][0, 0] = 1
    weights["fc.weight"][0, 0] = sign
    return weights


def bright_everywhere() -> State:
    """The weights of a network whose logit grows with the brightness of each region of an image."""
    weights = bright(1.0)
    weights["conv1.weight"][0] = 1 / 49
    for layer in ("layer2.0", "layer3.0", "layer4.0"):  # the mean of 3 x 3 instead of one of 2 x 2
        weights[f"{layer}.downsample.0.weight"][0, 0] = 0
        weights[f"{layer}.conv1.weight"][0, 0] = 1 / 9
        weights[f"{layer}.conv2.weight"][0, 0, 1, 1] = 1
    return weights


@pytest.mark.parametrize(("sign", "warned"), [(1.0, False), (-1.0, True)])
def test_auc_far_below_chance_warns_of_the_order_of_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sign: float, warned: bool
) -> None:
    lab = image_tree(tmp_path, copies=4)
    for path in (lab / "data").rglob("*.*"):  # fakes are bright
        level = 180 + len(path.name) if "Fake" in path.parts else 60
        PIL.Image.new("RGB", (40, 40), (level, level, level)).save(path)
    adopted(lab, bright(sign), architecture="tv/resnet18")
    capsys.readouterr()
    scored(lab)
    told = capsys.readouterr().err
    assert ("the order of the classes may be wrong" in told) == warned
    assert ("auc=0.000" in told) == warned


# settings, width and height of an image, and top, left, height and width of the window that the network sees
WINDOWS: dict[str, tuple[dict[str, Any], tuple[int, int], tuple[int, int, int, int]]] = {
    "whole image": ({"resize": 64, "crop": 64}, (400, 400), (0, 0, 400, 400)),
    "two thirds": ({"resize": 64, "crop": 64}, (300, 200), (0, 50, 200, 200)),
    "squashed": ({"resize": 64, "crop": 64, "squash": True}, (300, 200), (0, 0, 200, 300)),
    "crop of resized": ({"resize": 128, "crop": 64}, (400, 400), (100, 100, 200, 200)),
    "crop of enlarged": ({"resize": 64, "crop": 48}, (16, 32), (10, 2, 12, 12)),
    "longer side": (
        {"resize": 64, "crop": 64, "resize_side": "longer"},
        (400, 200),
        (-100, 0, 400, 400),
    ),
    "not resized": ({"crop": 64}, (300, 200), (68, 118, 64, 64)),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_window_is_the_part_of_an_image_that_the_network_sees(name: str) -> None:
    settings, (width, height), window = WINDOWS[name]
    whole = {"resize": 0, "squash": False, "interpolation": "bilinear", **settings}
    top, left, rows, columns = window
    expected = Window(top=top, left=left, height=rows, width=columns)
    assert Preprocessing(**whole).seen_window(height, width) == expected


@pytest.mark.parametrize(
    ("by", "name"),
    [
        ("occlusion", "squashed"),
        ("occlusion", "crop of enlarged"),
        ("occlusion", "longer side"),
        ("blocks", "crop of resized"),
        ("blocks", "not resized"),
    ],
)
def test_heat_map_covers_what_the_network_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: By, name: str
) -> None:
    monkeypatch.setattr("trueface.prediction.heat_map.SQUARES", 4)
    settings, size, window = WINDOWS[name]
    adopted(tmp_path, bright_everywhere(), architecture="tv/resnet18", **settings)
    predictor = Predictor.load(paths.checkpoint(tmp_path / "runs/study" / MODEL))
    if name == "longer side":  # a map has no border
        window = (0, 0, size[1], size[0])
    top, left, height, width = window
    pixels = np.zeros((size[1], size[0], 3), np.uint8)  # the evidence is in a corner of the window
    pixels[top : top + height // 4, left : left + width // 4] = 255
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    heat = HeatMaps(tmp_path / "map.png", by, predictor).make_map(
        predictor.decode(tmp_path / "a.png"), tmp_path / "a.png"
    )
    found = heat.window
    assert (found.top, found.left, found.height, found.width) == window
    assert heat.values.shape == (height, width)
    corner, opposite = (
        heat.values[: height // 4, : width // 4],
        heat.values[height // 2 :, width // 2 :],
    )
    assert corner.max() == heat.values.max() > opposite.max() + 1e-3


def test_window_contains_each_pixel_of_which_the_network_sees_a_part() -> None:
    own = Preprocessing(crop=5, resize=7, squash=False, interpolation="bilinear")
    # a pixel of the resized image (7, 24) is 14.3 pixels high and 14.9 wide; the crop begins at (1, 10)
    assert own.seen_window(100, 357) == Window(top=14, left=148, height=72, width=76)


KINDS = installed_kinds(
    ["checkpoint", "test", "train", "benchmark", "poison", "unlearn", "features"]
)
FILE = """
name: study
defaults: {data_root: data, split_path: splits}
checkpoint:
  - {model: null, data: "published:theirs", architecture: tv/shufflenet_v2_x0_5, weights: theirs.pth, logits: 2,
     classes: [fake, real], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
train: [{model: "published:theirs", data: "gan2:pre", settings: {model: tv/shufflenet_v2_x0_5}, freeze: true, flip_prob: 0}]
autotest: ["gan2:pre&real:pre"]
test: [{model: "published:theirs", data: "gan2:pre&real:pre", corrupt: [none, jpeg50]}]
benchmark: [{test: ["gan2:pre&real:pre"]}]
"""


def test_task_file_plans_tests_of_a_published_model(lab: Path) -> None:
    (lab / "theirs.pth").touch()
    plan = plan_text(FILE, KINDS.values(), lab)
    jobs = {job.name: job for job in plan.jobs}
    made = jobs["checkpoint/published:theirs"]
    assert made.settings["classes"] == "fake,real"
    assert made.inputs == (lab / "theirs.pth",)
    for name in (
        "test/published:theirs/gan2:pre&real:pre",
        "test/published:theirs/gan2:pre&real:pre@corrupt=jpeg50",
        "train/published:theirs#gan2:pre",
        "benchmark/published:theirs/gan2:pre&real:pre",
    ):
        assert "checkpoint/published:theirs" in jobs[name].needs
    (share,) = plan.shares(jobs)  # a frozen fine-tuning keeps the published backbone
    assert (share.job.base, share.job.settings["model"]) == (MODEL, SMALL)


def test_crops_of_a_test_of_a_published_model_cause_a_warning(lab: Path) -> None:
    (lab / "theirs.pth").touch()
    crops = FILE.replace("splits}", "splits, test_crops: 4, patch_size: 16}", 1)
    warnings = [
        [each.message for each in plan_text(text, KINDS.values(), lab).warnings]
        for text in (FILE, crops)
    ]
    assert [[text for text in each if "test_crops" in text] for each in warnings] == [
        [],
        [
            "test_crops and patch_size have no effect on published:theirs, because a published model has its own "
            "preprocessing. Leave them out."
        ],
    ]


FINE_TUNING = (
    "train: [{model: published:theirs, data: gan2:pre, settings: {model: tv/shufflenet_v2_x0_5}}]"
)


@pytest.mark.parametrize("is_done", [False, True])
def test_plan_refuses_to_train_from_a_model_that_resizes(tmp_path: Path, is_done: bool) -> None:
    lab = image_tree(tmp_path)
    text = FILE.replace("logits: 2,", "logits: 2, resize: 256,")
    if is_done:  # by another task file of the run
        adopted(lab, state(), resize=36)
        head, _, _ = FILE.partition("checkpoint:")
        text = head + FINE_TUNING
    (lab / "theirs.pth").touch()
    with pytest.raises(UsageError) as refused:
        plan_text(text, KINDS.values(), lab)
    size = 36 if is_done else 256
    assert f"published with images that are resized to {size} pixels" in str(refused.value)
    assert re.search(rf"study.yaml:{4 if is_done else 7}\b", str(refused.value))


def test_plan_trains_at_the_side_to_which_a_published_model_resizes(tmp_path: Path) -> None:
    lab = image_tree(tmp_path)
    (lab / "theirs.pth").touch()
    head, _, _ = FILE.replace("logits: 2,", "logits: 2, resize: 32, crop: 32,").partition("train:")
    fitted = FINE_TUNING.replace("{model: tv", "{decode: fitted, resize_size: 32, model: tv")
    jobs = {job.name for job in plan_text(head + fitted, KINDS.values(), lab).jobs}
    assert "train/published:theirs#gan2:pre" in jobs


def base_of(lab: Path, size: int, **more: Any) -> Detector:
    """Return what a training that crops to this size would start from."""
    given = {"data_root": "data", "split_path": "splits", "model": SMALL, **more}
    settings = TrainSettings.model_validate({**given, "resize_size": size})
    start = TrainingStart(model=MODEL, folder=lab / "runs/study" / MODEL, weights="none")
    return init_model(start, settings, "cpu")


def test_training_from_a_model_that_resizes_is_refused(tmp_path: Path) -> None:
    adopted(tmp_path, state(), resize=36)
    with pytest.raises(CheckpointError, match=r"published:theirs was published .* to 36 pixels"):
        base_of(tmp_path, 32)


def test_training_at_the_resized_side_starts_from_a_published_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adopted(tmp_path, state(), resize=32, interpolation="bicubic")
    assert torch.equal(base_of(tmp_path, 32, decode="fitted").head.bias, state()["fc.bias"])
    assert "trains with decode: fitted, whose filter is not bicubic" in caplog.text


@pytest.mark.parametrize(("size", "warned"), [(32, False), (64, True)])
def test_training_from_a_model_of_another_crop_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int, warned: bool
) -> None:
    adopted(tmp_path, state())
    assert torch.equal(base_of(tmp_path, size).head.bias, state()["fc.bias"])
    told = "crop=32 state=trains with resize_size: 64"
    assert (told in caplog.text) == warned


def test_another_content_of_the_file_means_new_jobs(lab: Path) -> None:
    (lab / "theirs.pth").touch()
    task = parse(
        FILE, file="study.yaml", context=ParseContext(kinds=KINDS, environment={}), include=str
    )

    def hashes(content: str) -> dict[str, str]:
        plan = build_plan(
            task, root=lab, exists=Path.exists, code=lambda *_: {"": ""}, content=lambda _: content
        )
        return {job.name: job.hash for job in plan.jobs}

    before, again, after = hashes("a"), hashes("a"), hashes("b")
    assert before == again
    assert not [name for name in before if before[name] == after[name]]


def test_benchmark_of_a_published_model_is_black(lab: Path) -> None:
    adopted(lab, network(1).state_dict())
    given = {"data_root": "data", "split_path": "splits", "corrupt": ["jpeg50"]}
    benchmark(a_job(lab, "benchmark", MODEL, data=DATA, settings=given))
    (index,) = (lab / "runs/study" / MODEL).rglob("cells.json")
    cells = json.loads(index.read_text())["cells"]
    assert {(cell["setting"], cell["why"]) for cell in cells} == {
        ("black", "the training images of a published model are not known")
    }
    with pytest.raises(DataError, match="setting: white is wrong"):
        benchmark(a_job(lab, "benchmark", MODEL, data=DATA, settings={**given, "setting": "white"}))


TUNED = f"{MODEL}#{DATA}"
TUNE = """
train: [{model: "published:theirs", data: "gan2:pre&real:pre", settings: {model: tv/shufflenet_v2_x0_5}}]
"""


@pytest.fixture
def trained_lab(tmp_path: Path) -> Path:
    """A lab with lists of a training, and a published file."""
    lab = image_tree(tmp_path, copies=3)
    keys = json.loads((lab / "splits/test.json").read_text())
    fake, real = keys[:12], keys[12:]
    lists = {"train": slice(0, 8), "val": slice(8, 10), "test": slice(10, 12)}
    write_lists(lab / "splits", **{name: fake[part] + real[part] for name, part in lists.items()})
    torch.save(state(), lab / "theirs.pth")
    return lab


def test_benchmark_of_a_model_fine_tuned_from_a_published_one_is_black(trained_lab: Path) -> None:
    lab = trained_lab
    adopted(lab, state())
    given: dict[str, Any] = {"data_root": "data", "split_path": "splits"}
    once = {**given, "model": SMALL, "num_epochs": 1, "batch_size": 4, "resize_size": 32}
    training.train(a_job(lab, "train", TUNED, base=MODEL, data=DATA, settings=once))
    given |= {"corrupt": ["jpeg50"], "resize_size": 32}
    benchmark(a_job(lab, "benchmark", TUNED, data=DATA, settings=given))
    (index,) = (lab / "runs/study" / TUNED).rglob("cells.json")
    cells = json.loads(index.read_text())["cells"]
    assert {(cell["setting"], cell["why"]) for cell in cells} == {
        ("black", "the training images of a published model are not known")
    }


@pytest.mark.parametrize("model", [MODEL, TUNED])
@pytest.mark.parametrize("earlier", [False, True], ids=["planned", "earlier-run"])
def test_plan_refuses_another_tier_than_black(
    trained_lab: Path, model: str, *, earlier: bool
) -> None:
    made = FILE.split("train:")[0] + TUNE
    if earlier:
        adopted(trained_lab, state())
        made = made.partition("checkpoint:")[0] + TUNE * (model == TUNED)
    wanted = f'benchmark: [{{model: "{model}", test: ["{DATA}"], setting: SETTING}}]'
    assert plan_text(made + wanted.replace("SETTING", "black"), KINDS.values(), trained_lab).jobs
    with pytest.raises(UsageError, match=r"setting: white is wrong .* of a published model"):
        plan_text(made + wanted.replace("SETTING", "white"), KINDS.values(), trained_lab)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weights": "none"}, "weights: none is not a file"),
        ({"weights": ""}, "weights: nothing is not a file"),
        ({"architecture": "tv/resnet19"}, "Did you mean 'tv/resnet18'"),
        ({"architecture": "linear/tv/resnet18"}, "Give a network, such as tv/resnet50"),
        ({"architecture": "dct"}, "Give a network, such as tv/resnet50"),
        ({"architecture": "tv/inception_v3"}, "transform_input.*Give timm/inception_v3"),
        ({"architecture": "tv/googlenet"}, "transform_input.*Add it as a plug-in"),
        ({"logits": 3}, "1 or 2"),
        ({"classes": "real"}, "real,fake"),
        ({"mean": "0.5,0.5"}, "three numbers"),
        ({"mean": "0.5,0.5,0.5"}, "both mean and std"),
        ({"mean": "0.5,0.5,0.5", "std": "0.5,0,0.5"}, "greater than 0"),
        ({"squash": True}, "squash needs resize"),
        (
            {"resize": 64, "crop": 64, "squash": True, "resize_side": "longer"},
            "Leave one of them out",
        ),
        ({"resize": 32}, "Set crop to 32 or less"),
        (
            {"architecture": "lgrad"},
            "needs images of 256 by 256 pixels, got 224 by 224. Set crop to 256",
        ),
        (
            {"architecture": "ccvit", "crop": 256},
            "multiple of 224 pixels, got 256. Set crop to 224",
        ),
        ({"threshold": 1}, "less than 1"),
        ({"interpolation": "cubic"}, "bicubic"),
    ],
    ids=str,
)
def test_wrong_setting_is_refused(settings: dict[str, Any], words: str) -> None:
    given = {"architecture": "tv/resnet18", "weights": "a.pth", **settings}
    with pytest.raises(ValueError, match=words):
        PublishedSettings.model_validate(given)


def test_command_makes_a_model_that_predicts(
    lab: Path, command: Command, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(lab)
    torch.save(state(), lab / "theirs.pth")
    given = ("--architecture", SMALL, "--weights", "theirs.pth", "--crop", "48")
    assert f"parameters\t{PARAMETERS}" in command("checkpoint", MODEL, "--name", "line", *given).out
    images = sorted((lab / "data").rglob("*.*"))
    answers = command("predict", *images, "--name", "line", "--device", "cpu").out
    assert len(answers.splitlines()) == 2 * len(FILES)
    assert "small=4 of=8 state=smaller than the crop of 48 pixels" in caplog.text
    told = command("checkpoint", "gan2:pre", *given, code=2).err
    assert "unknown subset of a published model 'gan2'" in told
    told = command("checkpoint", MODEL, *given[:2], "--weights", "absent.pth", code=2).err
    assert "absent.pth is missing: the published checkpoint" in told


def test_union_is_no_name(lab: Path) -> None:
    given = {"architecture": "tv/resnet18", "weights": "theirs.pth"}
    draft = a_draft(CHECKPOINT, lab, given, model=MODEL, data=MODEL)
    line = CHECKPOINT.argv(draft)
    assert line[:4] == ("python", "-m", "trueface", "checkpoint")
    with pytest.raises(UsageError, match="one name"):
        plan_text(
            FILE.replace('data: "published:theirs",', 'data: "published:a&published:b",', 1),
            KINDS.values(),
            lab,
        )
