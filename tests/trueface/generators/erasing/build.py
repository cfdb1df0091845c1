"""A diffuser small enough to reckon by hand, a small real one, one that draws known shapes, and weights of published measures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.trueface.generators.diffusion.tiny_folder import (
    TOKENS,
    WIDTH,
    vocabulary,
    write_tokenizer,
)
from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.diffusion.networks import EpsNetwork, NetworkShape, build_network
from trueface.generators.diffusion.schedule import Schedule, make_schedule
from trueface.generators.erasing.erasure import ErasureTask
from trueface.generators.erasing.recognition import ConceptClassifier
from trueface.generators.erasing.registry import ErasureOptions

CONCEPT, ANCHOR, NULL = 2.0, -1.0, 0.5  # embeddings of the linear network
NAMES = ("anchor", "concept", "other")
SIDE = 4
SHAPES = ("cross", "disc", "square")
VIEW_PX = 16


class LinearEps(EpsNetwork):
    """eps(z, e) = a z + b e, of images of one pixel: two parameters, `a` and the map's weight b."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__(
            NetworkShape(network="mlp", size=1, channels=1, classes=2, embedding=1, widths=(1,))
        )
        self.a = nn.Parameter(torch.tensor([a]))
        self.map = nn.Linear(1, 1, bias=False)
        assert self.table is not None
        with torch.no_grad():
            self.map.weight.fill_(b)
            self.table.weight.copy_(torch.tensor([[ANCHOR], [CONCEPT], [NULL]]))

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        assert embedding is not None
        added: Tensor = self.map(embedding)
        return self.a * x + added.reshape(-1, 1, 1, 1)

    def condition_maps(self) -> tuple[nn.Linear, ...]:
        return (self.map,)


def linear(a: float, b: float) -> Diffuser:
    return Diffuser(
        network=LinearEps(a, b),
        schedule=make_schedule("linear"),
        size=1,
        channels=1,
        class_names=NAMES[:2],
        has_null=True,
    )


def gradients(diffuser: Diffuser, loss: Tensor) -> tuple[float, float]:
    """Return the loss's derivatives by a and b."""
    network = diffuser.network
    assert isinstance(network, LinearEps)
    by_a, by_b = torch.autograd.grad(
        loss, (network.a, network.map.weight), allow_unused=True, materialize_grads=True
    )
    return float(by_a), float(by_b)


def small(*, has_null: bool = True, seed: int = 0) -> Diffuser:
    """Return a small untrained network of three classes, whose maps and last layer are not zero."""
    shape = NetworkShape(network="mlp", size=4, channels=1, classes=3, embedding=4, widths=(16, 16))
    network = build_network(shape, seed=seed)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return Diffuser(
        network=network.eval(),
        schedule=make_schedule("linear"),
        size=4,
        channels=1,
        class_names=NAMES,
        has_null=has_null,
    )


FEW: dict[str, Any] = {
    "num_steps": 3, "batch_size": 8, "paths": 4, "sample_steps": 3, "refresh": 2, "lr": 1e-2,
}  # fmt: skip


def few(options: ErasureOptions, **more: Any) -> ErasureOptions:
    """Return a method's options with few steps."""
    return replace(options, **{**FEW, **more})


def a_problem(options: ErasureOptions, **more: Any) -> ErasureTask:
    return ErasureTask(**{"erase": 1, "anchor": 0, "options": options, "seed": 3, **more})


def prototypes() -> Tensor:
    """Return an image of each class, 3×1×4×4."""
    images = torch.full((3, 1, SIDE, SIDE), -0.75)
    for number in range(3):
        images[number, :, number, :] = 0.75
    return images


class Drawer(EpsNetwork):
    """Generates its embedding, whose numbers are pixels: the noise is the image minus the embedding."""

    def __init__(self, schedule: Schedule, pictures: Tensor, *, deaf: bool) -> None:
        pixels = pictures.shape[1:].numel()
        super().__init__(
            NetworkShape(
                network="mlp", size=SIDE, channels=1, classes=3, embedding=pixels, widths=(1,)
            )
        )
        self.schedule, self.deaf = schedule, deaf
        assert self.table is not None
        with torch.no_grad():
            self.table.weight.copy_(torch.cat([pictures, pictures.mean(0)[None]]).flatten(1))

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        assert embedding is not None
        assert self.table is not None
        picture = self.table.weight[1].expand_as(embedding) if self.deaf else embedding
        signal, sigma = self.schedule.signal(t, x), self.schedule.sigma(t, x)
        # gradients also reach inputs that have no effect
        return (x - signal * picture.reshape(x.shape)) / sigma + 0 * embedding.sum()

    def condition_maps(self) -> tuple[nn.Linear, ...]:
        return ()


def drawer(
    pictures: Tensor | None = None, *, deaf: bool = False, has_null: bool = True
) -> Diffuser:
    """Return a diffuser that draws a picture for each class; a deaf one draws the disc, always."""
    schedule = make_schedule("linear")
    network = Drawer(schedule, prototypes() if pictures is None else pictures, deaf=deaf)
    return Diffuser(
        network=network.eval().requires_grad_(requires_grad=False),
        schedule=schedule,
        size=SIDE,
        channels=1,
        class_names=SHAPES,
        has_null=has_null,
    )


class _Nearest(nn.Module):
    """The nearest prototype, as a linear classifier of pixels."""

    def __init__(self) -> None:
        super().__init__()
        flat = prototypes().flatten(1)
        self.fc = nn.Linear(flat.shape[1], len(flat))
        with torch.no_grad():
            self.fc.weight.copy_(flat)
            self.fc.bias.copy_(-flat.square().sum(1) / 2)

    def forward(self, pixels: Tensor) -> Tensor:
        grey = pixels[:, 0].float() / 127.5 - 1
        logits: Tensor = self.fc(grey.flatten(1))
        return logits


def recogniser() -> ConceptClassifier:
    """Return the classifier that calls each prototype by its name."""
    return ConceptClassifier(_Nearest(), SHAPES)


def write_inception(path: Path) -> Path:
    """Write a state dict; needs torch-fidelity."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]  # of a package without types
        def load_state_dict(self, *_: object, **__: object) -> None:
            """Store the samples."""

    empty = path.with_suffix(".empty")
    torch.save({}, empty)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
        network = Untrained("inception-v3-compat", ["2048"], str(empty))
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
    torch.save(network.state_dict(), path)
    return path


def write_clip(folder: Path) -> Path:
    """Write a CLIP model of two layers in the layout of transformers; needs that."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    small = {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {**small, **ends, "vocab_size": len(vocabulary()), "max_position_embeddings": TOKENS}
    seen = {**small, "image_size": VIEW_PX, "patch_size": 8}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(2)
        config = CLIPConfig(text_config=text, vision_config=seen, projection_dim=8)
        CLIPModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    side = {"height": VIEW_PX, "width": VIEW_PX}
    CLIPImageProcessor(size={"shortest_edge": VIEW_PX}, crop_size=side).save_pretrained(folder)
    return folder
