"""Trainings of a StarGAN: they learn, resume bit-identically, and stop with a message."""

import math
from pathlib import Path

import PIL.Image
import pytest
import torch
from pydantic import ValidationError

from tests.trueface.generators.translation.build import portraits, tiny
from tests.trueface.stored_states import assert_almost_equal, put_state
from tests.trueface.watches import killed_at, stopping_at
from trueface.generators.made_folders import image_names
from trueface.generators.translation import training as training_module
from trueface.generators.translation.settings import TranslatorSettings
from trueface.generators.translation.training import (
    BETA1,
    BETA2,
    LAMBDA_GP,
    LabelledImages,
    TranslatorTraining,
    attribute_loss,
    critic_loss,
    generator_loss,
    gradient_penalty,
    learning_rate_at,
    losses_text,
    reconstruction_loss,
    train_translator,
)
from trueface.generators.translation.translator import Generator, labels_of
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext
from trueface.runtime.stepping import RunFingerprint, run_steps


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    root = portraits(tmp_path_factory.mktemp("portraits")) / "A"
    names = image_names(root)
    return LabelledImages(root, names, labels_of(root, names)[1], 32)


def trained(
    pictures: LabelledImages,
    settings: TranslatorSettings,
    folder: Path,
    watch: RunContext | None = None,
) -> tuple[Generator, list[dict[str, float]]]:
    return train_translator(
        pictures,
        settings,
        watch=watch or RunContext(),
        resume_path=folder / "resume.pt",
        claim=RunFingerprint("this"),
    )


def same(first: Generator, second: Generator) -> bool:
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("gan", ["hinge", "wgan-gp"])
def test_stopped_training_resumes_with_identical_weights_and_history(
    pictures: LabelledImages, tmp_path: Path, gan: str
) -> None:
    settings = tiny(gan=gan, n_critic=2)
    whole, history = trained(pictures, settings, tmp_path / "whole")
    assert all(("penalty" in row) == (gan == "wgan-gp") for row in history)
    for step in (2, 3):
        parts = tmp_path / f"parts{step}"
        with pytest.raises(JobError, match=f"stopped after {step} of 6 steps"):
            trained(pictures, settings, parts, stopping_at(step))
        again, rows = trained(pictures, settings, parts)
        assert same(whole, again)
        assert rows == history


@pytest.mark.parametrize(("variant", "is_killed"), [("generator", False), ("both", True)])
def test_adversarial_training_resumes_with_identical_weights_and_history(
    pictures: LabelledImages, tmp_path: Path, variant: str, is_killed: bool
) -> None:
    settings = tiny(adversarial=variant, adversarial_steps=2, n_critic=2)
    whole, history = trained(pictures, settings, tmp_path / "whole")
    if is_killed:
        with pytest.raises(KeyboardInterrupt):
            trained(pictures, settings, tmp_path / "parts", killed_at(5))
    else:
        with pytest.raises(JobError, match="stopped after 3 of 6 steps"):
            trained(pictures, settings, tmp_path / "parts", stopping_at(3))
    again, rows = trained(pictures, settings, tmp_path / "parts")
    assert same(whole, again)
    assert rows == history


@pytest.mark.parametrize("variant", ["generator", "both"])
def test_adversarial_step_follows_the_formula(pictures: LabelledImages, variant: str) -> None:
    eps, lr, rec = 0.1, 0.01, 10.0
    settings = tiny(
        adversarial=variant, adversarial_attack="fgsm", adversarial_eps=eps, lr=lr, lambda_rec=rec, decay=0.0
    )  # fmt: skip
    training = TranslatorTraining(pictures, settings, "cpu")
    fresh = TranslatorTraining(pictures, settings, "cpu")
    batch = pictures.batch(1, 4, flip=0.0, seed=1)
    losses = training.learn(batch, 1)
    x, c, c_new = batch.images, batch.labels, batch.targets
    generator, critic = fresh.generator, fresh.critic

    def attacked(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        asked = images.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(generator(asked, labels).pow(2).sum(), asked)
        return (asked - eps * slope.sign()).clamp(-1, 1).detach()

    def entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        signed = logits * (2 * labels - 1)
        return torch.log1p((-signed).exp()).sum(1).mean()

    u = attacked(x, c_new)
    made = generator(u, c_new)
    w = made + (attacked(made, c) - made).detach()
    real, fake = (u, w.detach()) if variant == "both" else (x, generator(x, c_new).detach())
    score, logits = critic(torch.cat((real, fake)))
    hinge = (1 - score[:4]).clamp(min=0).mean() + (1 + score[4:]).clamp(min=0).mean()
    assert losses["critic"] == pytest.approx(hinge.item(), rel=1e-4)
    assert losses["critic_cls"] == pytest.approx(entropy(logits[:4], c).item(), rel=1e-4)
    (hinge + entropy(logits[:4], c)).backward()
    torch.optim.Adam(critic.parameters(), lr, (0.5, 0.999)).step()
    score, logits = critic(made)
    back = (x - generator(w, c)).abs().mean()
    assert losses["generator"] == pytest.approx(-score.mean().item(), rel=1e-3)
    assert losses["reconstruction"] == pytest.approx(back.item(), rel=1e-3)
    generator.zero_grad()
    (-score.mean() + entropy(logits, c_new) + rec * back).backward()
    torch.optim.Adam(generator.parameters(), lr, (0.5, 0.999)).step()
    for own, expected in zip(training.generator.parameters(), generator.parameters(), strict=True):
        moved = (own - expected).abs()
        # Adam's first step is lr times a sign, which rounding can turn where a gradient is about zero
        assert float((moved < 0.01 * lr).float().mean()) > 0.98


def test_state_of_earlier_version_resumes(tmp_path: Path) -> None:
    rng, names = torch.Generator().manual_seed(1), [f"{number}.png" for number in range(6)]
    images = torch.randint(0, 256, (6, 3, 16, 16), generator=rng, dtype=torch.uint8)
    for name, image in zip(names, images, strict=True):
        PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name)
    labels = torch.tensor([[number % 2, number // 3] for number in range(6)]).float()
    pictures = LabelledImages(tmp_path, names, labels, 16)
    put_state("translator-0.3", tmp_path / "resume.pt")
    settings = tiny(size=16, width=2, critic_width=2, n_critic=2)
    whole, history = trained(pictures, settings, tmp_path / "whole")
    steps = list[int]()
    watch = RunContext(progress=lambda step, **_: steps.append(step))
    resumed, rows = trained(pictures, settings, tmp_path, watch)
    assert steps == [4, 5, 6]
    assert_almost_equal(resumed.state_dict(), whole.state_dict())
    assert [row["step"] for row in rows] == [row["step"] for row in history]


def test_state_of_another_training_is_ignored(pictures: LabelledImages, tmp_path: Path) -> None:
    with pytest.raises(JobError):
        trained(pictures, tiny(seed=7, num_steps=3), tmp_path, stopping_at(2))
    other, steps = RunFingerprint("another"), list[int]()
    watch = RunContext(progress=lambda step, **_: steps.append(step))
    path = tmp_path / "resume.pt"
    assert path.exists()
    asked = tiny(num_steps=3)
    train_translator(pictures, asked, watch=watch, resume_path=path, claim=other)
    assert steps == [1, 2, 3]


def test_images_that_exceed_memory_are_read_in_each_step(
    pictures: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_module, "MOST_HELD", 0)
    streamed = LabelledImages(pictures.root, pictures.names, pictures.labels, pictures.size)
    held, read = (each.batch(3, 4, flip=0.5, seed=1) for each in (pictures, streamed))
    assert torch.equal(held.images, read.images)
    assert held.images.stride() == read.images.stride()  # convolutions round by the layout, too


def test_batch_depends_only_on_its_step(pictures: LabelledImages) -> None:
    settings = tiny(num_steps=3)
    later = list(pictures.batches(2, settings))
    third = pictures.batch(3, settings.batch_size, flip=settings.flip, seed=settings.seed)
    assert torch.equal(later[1].images, third.images)
    assert not torch.equal(later[0].images, later[1].images)


def test_target_labels_are_labels_of_the_same_images(pictures: LabelledImages) -> None:
    batch = pictures.batch(1, 8, flip=0.0, seed=1)
    assert sorted(batch.targets.tolist()) == sorted(batch.labels.tolist())


def test_nonfinite_loss_fails_training_with_its_step(
    pictures: LabelledImages,
) -> None:
    training = TranslatorTraining(pictures, tiny(), "cpu")

    def set_weights_to_nan(*, step: int, **_: float) -> None:
        if step == 1:
            next(training.generator.parameters()).data.fill_(float("nan"))

    with pytest.raises(JobError, match=r"is nan at step 2 of 6\. Use a smaller lr than 0\.0001"):
        run_steps(training, RunContext(progress=set_weights_to_nan))


def test_learning_rate_decays_in_the_second_half() -> None:
    settings = tiny(num_steps=10, lr=1.0, decay=0.5)
    rates = [learning_rate_at(settings, step) for step in range(1, 11)]
    assert rates[:6] == [1.0] * 6
    assert rates[6:] == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_history_is_a_table() -> None:
    rows = [{"step": 2.0, "critic": 1.0}, {"step": 4.0, "critic": 0.5, "generator": 0.25}]
    assert losses_text(rows) == "step,critic,generator\n2,1,\n4,0.5,0.25\n"


def test_defaults_equal_those_of_the_paper() -> None:
    settings = TranslatorSettings(data_root="celeba")
    assert (settings.lambda_cls, settings.lambda_rec, LAMBDA_GP) == (1, 10, 10)
    assert (settings.n_critic, settings.lr, BETA1, BETA2) == (5, 1e-4, 0.5, 0.999)
    assert (settings.width, settings.blocks, settings.batch_size) == (64, 6, 16)
    assert (settings.size, settings.gan, settings.num_steps) == (128, "wgan-gp", 200_000)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"size": 30}, "30 is not a multiple of 4"),
        ({"labels": "a, b, a"}, "names an attribute twice"),
        ({"num_steps": 2, "n_critic": 5}, "is never trained"),
        ({"adversarial": "critic"}, "'off', 'generator' or 'both'"),
        ({"adversarial": "both", "adversarial_attack": "cw"}, "'fgsm', 'bim' or 'pgd'"),
        ({"adversarial": "both", "adversarial_target": "white"}, "'grey', 'black' or 'away'"),
        ({"adversarial": "both", "adversarial_eps": -0.1}, "greater than or equal to 0"),
        ({"adversarial": "both", "adversarial_eps": 1.5}, "less than or equal to 1"),
        ({"adversarial": "both", "adversarial_eps": float("nan")}, "finite number"),
        ({"adversarial": "both", "adversarial_steps": 0}, "greater than or equal to 1"),
        ({"adversarial": "both", "adversarial_step_size": 0.0}, "greater than 0"),
    ],
)
def test_incompatible_settings_are_rejected(given: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        tiny(**given)


def test_adversarial_training_is_part_of_the_hash_only_if_it_is_on() -> None:
    def decisive(**given: object) -> dict[str, object]:
        return TranslatorSettings.decisive(tiny(**given).model_dump(mode="json"))

    assert not any(name.startswith("adversarial") for name in decisive())
    on = decisive(adversarial="both", adversarial_eps=0.1)
    assert on == {**decisive(), "adversarial": "both", "adversarial_eps": 0.1}


def test_settings_of_an_unused_attack_have_no_effect() -> None:
    idle = TranslatorSettings.without_effect
    attack = {name for name in TranslatorSettings.model_fields if name.startswith("adversarial_")}
    assert attack <= set(idle(tiny().model_dump()))
    assert not attack & set(idle(tiny(adversarial="both").model_dump()))
    fgsm = idle(tiny(adversarial="both", adversarial_attack="fgsm").model_dump())
    assert attack & set(fgsm) == {"adversarial_steps", "adversarial_step_size"}
    zero = set(idle(tiny(adversarial="both", adversarial_eps=0.0).model_dump()))
    assert (attack | {"adversarial"}) - zero == {"adversarial_eps"}
    imported = idle(tiny(weights="G.ckpt", adversarial="both").model_dump())
    assert attack | {"adversarial", "num_steps"} == set(imported)


def test_wasserstein_loss_is_the_difference_of_means() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.5, -0.5])
    assert critic_loss("wgan-gp", real, fake).item() == -2.0


def test_hinge_loss_is_zero_beyond_the_margins() -> None:
    real, fake = torch.tensor([2.0, 0.25]), torch.tensor([-3.0, 0.5])
    assert critic_loss("hinge", real, fake).item() == pytest.approx(0.75 / 2 + 1.5 / 2)


def test_generator_loss_falls_if_images_look_real() -> None:
    assert generator_loss(torch.tensor([1.0, 2.0])).item() == -1.5


def test_gradient_penalty_of_linear_critic_follows_from_its_slope() -> None:
    slope = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)  # norm 5: (5 - 1)² = 16
    real, fake = torch.randn(3, 2, 1, 1), torch.randn(3, 2, 1, 1)
    penalty = gradient_penalty(
        lambda x: (x * slope).sum((1, 2, 3)), real, fake, torch.rand(3, 1, 1, 1)
    )
    assert penalty.item() == pytest.approx(16.0, rel=1e-5)


def test_gradient_penalty_is_evaluated_between_real_and_fake_images() -> None:
    seen = []

    def squares(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach().clone())
        return (x**2).sum((1, 2, 3)) / 2  # its slope at x is x

    real, fake = torch.full((1, 1, 1, 1), 4.0), torch.zeros(1, 1, 1, 1)
    penalty = gradient_penalty(squares, real, fake, torch.full((1, 1, 1, 1), 0.75))
    assert seen[0].item() == 3.0
    assert penalty.item() == pytest.approx(4.0)  # (3 - 1)²


def test_gradient_penalty_trains_the_critic() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    penalty = gradient_penalty(
        lambda x: weight * x.flatten(1).sum(1),
        torch.ones(2, 1, 1, 1),
        torch.zeros(2, 1, 1, 1),
        torch.full((2, 1, 1, 1), 0.5),
    )
    penalty.backward()  # type: ignore[no-untyped-call]  # torch's stub
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(4.0)  # d(w - 1)²/dw at 3


def test_attribute_loss_is_summed_over_labels_and_averaged_over_images() -> None:
    loss = attribute_loss(torch.zeros(2, 3), torch.tensor([[1.0, 0, 1], [0, 0, 1]]))
    assert loss.item() == pytest.approx(3 * math.log(2))


def test_reconstruction_loss_is_the_mean_absolute_difference() -> None:
    assert reconstruction_loss(torch.tensor([1.0, -1.0]), torch.zeros(2)).item() == 1.0
