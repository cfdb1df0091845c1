"""Forget-Me-Not, on a small network with cross-attention; tests of its pipeline are in `diffusion/test_stable.py`."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trueface.generators.erasing.build import a_problem, small
from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.diffusion.networks import CrossAttention, EpsNetwork, NetworkShape
from trueface.generators.diffusion.schedule import make_schedule
from trueface.generators.diffusion.token_spans import TokenSpans
from trueface.generators.erasing.erasure import run_erasure
from trueface.generators.erasing.methods.forget_me_not import (
    attention_loss,
    attention_map,
    attention_norm,
    concept_places,
)
from trueface.generators.erasing.registry import METHODS
from trueface.runtime.errors import JobError

TOKENS, WIDTH, HEADS, SIDE = 6, 4, 2, 2
PROMPTS = ("a disc", "red cross")
SPANS: TokenSpans = (((0, 1), (2, 6)), ((0, 3), (4, 6), (6, 9)))
CROSS_AND_END = (2, 3, 4)
STEPS = {"num_steps": 4, "lr": 1e-2, "paths": 2, "sample_steps": 2}


class Attention(nn.Module):
    heads, scale = HEADS, 0.5

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_q: nn.Module = nn.Linear(1, width, bias=False)
        self.to_k: nn.Module = nn.Linear(WIDTH, width, bias=False)
        self.to_v = nn.Linear(WIDTH, width, bias=False)
        self.to_out = nn.Linear(width, 1)

    def forward(self, pixels: Tensor, text: Tensor) -> Tensor:
        keys = self.to_k(text)  # before the queries: the order is not that of diffusers
        values = self.to_v(text).reshape(*text.shape[:2], HEADS, -1).transpose(1, 2)
        seen = attention_map(self.to_q(pixels), keys, self) @ values
        answer: Tensor = self.to_out(seen.transpose(1, 2).flatten(2))
        return answer


class TextToImage(EpsNetwork):
    """Two layers of cross-attention, called in reverse order, and a linear layer."""

    def __init__(self, spans: TokenSpans | None) -> None:
        super().__init__(
            NetworkShape(
                network="mlp", size=SIDE, channels=1, classes=len(PROMPTS), embedding=TOKENS * WIDTH, widths=(1,)
            )
        )  # fmt: skip
        self.layers = nn.ModuleList([Attention(4), Attention(8)])
        self.last = nn.Linear(1, 1)
        self.token_spans = spans

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        assert embedding is not None
        pixels = x.flatten(1)[..., None]
        for layer in reversed(self.layers):
            pixels = pixels + layer(pixels, embedding.reshape(-1, TOKENS, WIDTH))
        answer: Tensor = self.last(pixels).reshape(x.shape)
        return answer

    def condition_maps(self) -> tuple[nn.Linear, ...]:
        return tuple(layer.to_v for layer in self.layers if isinstance(layer, Attention))

    def cross_attentions(self) -> tuple[CrossAttention, ...]:
        return tuple(layer for layer in self.layers if isinstance(layer, Attention))


def text_to_image(spans: TokenSpans | None = SPANS, prompts: tuple[str, ...] = PROMPTS) -> Diffuser:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(5)
        network = TextToImage(spans)
    return Diffuser(
        network=network.eval(), schedule=make_schedule("linear"), size=SIDE, channels=1,
        class_names=prompts, has_null=True,
    )  # fmt: skip


def options(**given: Any) -> Any:
    return METHODS["forget-me-not"].options({**STEPS, **given})


def test_forget_me_not_has_the_loss_of_the_authors_program() -> None:
    maps = [
        torch.arange(heads * pixels * 6).mul(0.7).sin().reshape(1, heads, pixels, 6).softmax(-1)
        for heads, pixels in ((2, 4), (3, 1))
    ]
    # printed by the AttnController of SHI-Labs/Forget-Me-Not a4a81e82 for these maps and places
    assert attention_norm(maps, (2, 3, 5)).item() == pytest.approx(1.143090844, abs=1e-6)


def test_forget_me_not_reads_the_attention_of_all_layers_heads_and_pixels() -> None:
    student = text_to_image()
    noisy, t = torch.linspace(-1, 1, 8).reshape(2, 1, SIDE, SIDE), torch.tensor([5, 900])
    loss = attention_loss(student, noisy, t, a_problem(options()), CROSS_AND_END)
    text = student.repeat_embedding(1, 1).reshape(TOKENS, WIDTH)
    pixels, total = noisy.flatten(1)[..., None], 0.0
    for layer in reversed(student.network.cross_attentions()):
        width = layer.to_k(text).shape[-1] // HEADS
        for image in pixels:
            for pixel in image:
                for head in range(HEADS):
                    part = slice(head * width, (head + 1) * width)
                    scores = layer.to_k(text)[:, part] @ layer.to_q(pixel)[part] * layer.scale
                    total += float(scores.softmax(0)[list(CROSS_AND_END)].detach().square().sum())
        assert isinstance(layer, Attention)
        pixels = pixels + layer(pixels, text.expand(2, -1, -1))
    assert loss.item() == pytest.approx(total**0.5, rel=1e-5)


@pytest.mark.parametrize("scope", ["all", "attention", "maps"])
def test_forget_me_not_lowers_the_attention_and_changes_only_its_scope(scope: str) -> None:
    teacher = text_to_image()
    task = a_problem(options(scope=scope), anchor=None)
    student = run_erasure("forget-me-not", teacher, task).diffuser
    before = dict(teacher.network.named_parameters())
    changed = {
        name
        for name, parameter in student.network.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    attention = {name for name in before if name.startswith("layers.")}
    # no attention follows the values of the layer that is called last, so they get no gradient
    trained = attention - {
        f"layers.0.{name}" for name in ("to_v.weight", "to_out.weight", "to_out.bias")
    }
    assert changed == (trained if scope != "maps" else {"layers.1.to_v.weight"})
    assert [step for step, _ in task.history] == [1, 2, 3, 4]
    noisy, t = torch.linspace(-1, 1, 4).reshape(1, 1, SIDE, SIDE), torch.tensor([500])
    losses = [
        attention_loss(each, noisy, t, task, concept_places(teacher, task)).item()
        for each in (teacher, student)
    ]
    assert losses[1] < losses[0]


def test_forget_me_not_takes_real_images_instead_of_samples() -> None:
    teacher, task = text_to_image(), a_problem(options(images="photos"), anchor=None)
    runs = [
        run_erasure("forget-me-not", teacher, a_problem(task.options, concept_images=images))
        for images in (None, torch.full((3, 1, SIDE, SIDE), 0.5))
    ]
    weights = [run.diffuser.network.state_dict()["layers.0.to_k.weight"] for run in runs]
    assert not torch.equal(*weights)
    wrong = a_problem(task.options, concept_images=torch.zeros(3, 1, 4, 4))
    with pytest.raises(JobError, match="have 4x4 pixels, but the diffuser draws 2x2"):
        run_erasure("forget-me-not", teacher, wrong)


@pytest.mark.parametrize(
    ("teacher", "words", "says"),
    [
        (small(), "", "forget-me-not needs a text-to-image model"),
        (text_to_image(None), "", "Import it again"),
        (text_to_image(), "square", "'square' is not in the prompt 'red cross'"),
        (text_to_image(prompts=("Cross", "red cross")), "cross", "also in the prompt 'Cross'"),
        (text_to_image(prompts=("a red cross here", "red cross")), "", "also in the prompt"),
    ],
    ids=["classes", "no places", "another word", "shared word", "shared prompt"],
)  # fmt: skip
def test_forget_me_not_refuses_models_and_words_that_it_cannot_erase(
    teacher: Diffuser, words: str, says: str
) -> None:
    with pytest.raises(JobError, match=says):
        run_erasure("forget-me-not", teacher, a_problem(options(concept_words=words), anchor=None))
