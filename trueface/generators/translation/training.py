"""The training of a StarGAN: each step trains the critic, and every n-th step also the generator.

Each batch depends only on its step number, and nothing else is random. A killed training therefore resumes
bit-identically from its last state.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.loading.prefetching import prefetch
from trueface.generators.made_folders import load_image_batch, load_images, to_minus_one_one
from trueface.generators.step_loader import StepLoader
from trueface.generators.translation.disruption import disrupt_training_images
from trueface.generators.translation.settings import TranslatorSettings
from trueface.generators.translation.translator import (
    Generator,
    GeneratorShape,
    build_critic,
    build_generator,
)
from trueface.runtime.gradient_step import GradientStep, set_lr
from trueface.runtime.precision import autocast
from trueface.runtime.progress import RunContext
from trueface.runtime.rng import stream_seed, torch_rng
from trueface.runtime.stepping import ResumeFile, RunFingerprint, StepTrainer, run_steps

Network = TypeVar("Network", bound=nn.Module)

# published values of StarGAN (arXiv 1711.09020): section "Training", and the weight of the penalty in wgan-gp
BETA1, BETA2 = 0.5, 0.999  # betas of Adam
LAMBDA_GP = 10.0
ROWS = 200  # maximum number of rows in the history
MOST_HELD = 2 << 30  # bytes; larger sets of images are not kept in memory but read at each step


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """Images and labels of one step."""

    images: Tensor  # N×3×H×W in [-1, 1]
    labels: Tensor  # N×K, labels of the images
    targets: Tensor  # N×K, labels of other images of the batch
    share: Tensor  # N×1×1×1 in 0 … 1, weight of the real image in the gradient penalty


class LabelledImages:
    """Images of a folder with labels.

    Args:
        root: folder of the images.
        names: file names of the images.
        labels: labels of the images, N×K.
        size: side that each image must have, in pixels.
    """

    def __init__(self, root: Path, names: Sequence[str], labels: Tensor, size: int) -> None:
        self.root, self.names, self.labels, self.size = root, tuple(names), labels, size
        self._held = None
        if len(names) * size * size * 3 <= MOST_HELD:
            held = load_images(root, self.names, size=size)
            # as from `load_image_batch`; this memory format is fastest for the convolutions
            self._held = held.to(memory_format=torch.channels_last)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the images at these positions, N×3×H×W in [-1, 1]."""
        if self._held is not None:
            return to_minus_one_one(self._held[rows])
        names = [self.names[row] for row in rows.tolist()]
        return load_image_batch(self.root, names, size=self.size)

    def batch(self, step: int, count: int, *, flip: float, seed: int) -> LabelledBatch:
        """Return the batch of a step: images sampled with replacement, some of them mirrored.

        Targets are the labels of the same images in another order, as in the paper.
        """
        batch, rng = StepLoader(self, "translator/batch", count, seed)(step)
        mirrored = torch.rand(count, generator=rng) < flip
        order = torch.randperm(count, generator=rng)
        share = torch.rand(count, 1, 1, 1, generator=rng)
        flipped = batch.inputs.flip(3)
        images = torch.where(mirrored[:, None, None, None], flipped, batch.inputs)
        labels = self.labels[batch.indices]
        return LabelledBatch(images, labels, labels[order], share)

    def batches(self, first: int, settings: TranslatorSettings) -> Iterator[LabelledBatch]:
        """Yield the batches of the steps from `first` on. The next batch is read while one is used."""
        draw = partial(
            self.batch, count=settings.batch_size, flip=settings.flip, seed=settings.seed
        )
        return prefetch(lambda _: map(draw, range(first, settings.num_steps + 1)), depth=1)


class TranslatorTraining(StepTrainer):
    """Generator, critic and their optimizers between two steps.

    x are images and c their labels, c' target labels, D realness and D_c logits of the attributes. The losses
    without their weights:

        critic     adversarial(D(x), D(G(x, c'))) + entropy(D_c(x), c) + penalty
        generator  -D(G(x, c')) + entropy(D_c(G(x, c')), c') + |x - G(G(x, c'), c)|

    Adversarial training has the two variants of N. Ruiz et al., Disrupting Deepfakes (arXiv 2003.01279). The attack
    `disrupt_training_images` perturbs the inputs of both passes: u = a(x, c') and w = a(G(u, c'), c). With
    `adversarial: generator`, the loss of the generator changes:

        generator  -D(G(u, c')) + entropy(D_c(G(u, c')), c') + |x - G(w, c)|

    With `adversarial: both`, the loss of the critic changes as well:

        critic     adversarial(D(u), D(w)) + entropy(D_c(u), c) + penalty between u and w

    In their program the gradient of the reconstruction ends at w. Here it passes through w to G(u, c'), and the
    perturbation is a constant. An eps of 0 is therefore exactly the training without attacks. Their latest attack
    drives outputs away from mid grey. The targets here are those of `disrupt`. The authors attack a copy of the
    generator in evaluation mode, whose instance norm has running statistics. Here it has the statistics of each image.
    Here w is the same in both losses. There each loss has its own w.

    Args:
        pictures: training images.
        settings: settings of the training.
        device: device of both networks.
    """

    def __init__(self, pictures: LabelledImages, settings: TranslatorSettings, device: str) -> None:
        super().__init__(settings.num_steps)
        self.pictures, self.settings, self.device = pictures, settings, device
        self.history: list[dict[str, float]] = []
        # the latest value of each loss, because not every step trains the generator
        self.losses: dict[str, float] = {}
        classes = pictures.labels.shape[1]
        shape = GeneratorShape(classes, settings.width, settings.blocks)
        seeds = [
            stream_seed(f"translator/{part}", settings.seed) for part in ("generator", "critic")
        ]
        self.generator = self._place_network(build_generator(shape, seed=seeds[0]))
        self.critic = self._place_network(build_critic(settings, classes, seed=seeds[1]))
        self.generator_optimizer = self._optimizer(self.generator)
        self.critic_optimizer = self._optimizer(self.critic)
        self._generator_descent = GradientStep(self.generator_optimizer)
        self._critic_descent = GradientStep(self.critic_optimizer)
        self.parts = {
            "generator": self.generator,
            "critic": self.critic,
            "generator_optimizer": self.generator_optimizer,
            "critic_optimizer": self.critic_optimizer,
        }
        self._batches: Iterator[LabelledBatch] | None = None

    def _place_network(self, network: Network) -> Network:
        network.to(memory_format=torch.channels_last)
        return network.to(self.device).train()

    def _optimizer(self, network: nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(network.parameters(), self.settings.lr, (BETA1, BETA2))

    def take_step(self) -> Mapping[str, float]:
        """Train the critic, and at every n-th step the generator."""
        if self._batches is None:
            self._batches = self.pictures.batches(self.step + 1, self.settings)
        return self.learn(next(self._batches), self.step + 1)

    def learn(self, batch: LabelledBatch, step: int) -> dict[str, float]:
        """Train on the batch of a step, counted from 1; return the losses by name."""
        settings = self.settings
        for optimizer in (self.generator_optimizer, self.critic_optimizer):
            set_lr(optimizer, learning_rate_at(settings, step))
        trains_generator = step % settings.n_critic == 0
        images, labels, targets, share = (
            each.to(self.device, non_blocking=True)
            for each in (batch.images, batch.labels, batch.targets, batch.share)
        )
        attacks_critic = settings.adversarial == "both"
        attacks = attacks_critic or (settings.adversarial == "generator" and trains_generator)
        attack = self._attack(step)
        given = attack(images, targets) if attacks else images
        with torch.set_grad_enabled(trains_generator), self._precision():
            fake = self.generator(given, targets)
        back = fake + (attack(fake, labels) - fake).detach() if attacks else fake
        real, shown = (given, back) if attacks_critic else (images, fake)
        if attacks and not attacks_critic:
            with torch.no_grad(), self._precision():
                shown = self.generator(images, targets)
        losses = self._critic_step(real, labels, shown.detach().float(), share)
        if trains_generator:
            losses |= self._generator_step(images, labels, targets, (fake, back))
        # each read waits for the device, so all losses are read at once
        return dict(zip(losses, torch.stack([*losses.values()]).tolist(), strict=True))

    def _attack(self, step: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Return what disrupts images under labels. It depends only on the step and the weights."""
        rng = torch_rng(f"translator/adversarial/{step}", self.settings.seed)

        def attack(images: Tensor, labels: Tensor) -> Tensor:
            with self._precision():
                return disrupt_training_images(self.generator, images, labels, self.settings, rng)

        return attack

    def nonfinite_message(self, name: str, loss: float) -> str:
        """Return a message with the loss and the step."""
        other = "" if self.settings.gan == "hinge" else ", or use gan: hinge"
        return (
            f"the loss {name!r} is {loss} at step {self.step} of {self.total}. Use a smaller lr than "
            f"{self.settings.lr:g}{other}."
        )

    def record_losses(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Store the latest value of each loss, and add a row to the history if one is due."""
        self.losses |= losses
        if self.step % max(1, self.total // ROWS) == 0:
            self.history.append({"step": self.step, **self.losses})
        return self.losses

    def extra_state(self) -> dict[str, Any]:
        """Return the history and the latest losses."""
        return {"history": json.dumps(self.history), "losses": self.losses}

    def load_extra_state(self, numbers: Mapping[str, Any]) -> None:
        """Restore the history and the latest losses."""
        self.history, self.losses = json.loads(numbers["history"]), dict(numbers["losses"])

    def _critic_step(
        self, images: Tensor, labels: Tensor, fake: Tensor, share: Tensor
    ) -> dict[str, Tensor]:
        settings = self.settings
        with self._precision():
            realness, logits = self.critic(torch.cat((images, fake)))
        count = len(images)
        realness, logits = realness.float(), logits.float()
        adversarial = critic_loss(settings.gan, realness[:count], realness[count:])
        attributes = attribute_loss(logits[:count], labels)
        loss = adversarial + settings.lambda_cls * attributes
        losses = {"critic": adversarial, "critic_cls": attributes}
        if settings.gan == "wgan-gp":  # the second derivative of the penalty needs float32
            penalty = gradient_penalty(lambda mixture: self.critic(mixture)[0], images, fake, share)
            loss = loss + LAMBDA_GP * penalty
            losses["penalty"] = penalty
        self._critic_descent.backward(loss)
        self._critic_descent.apply()
        return {name: value.detach() for name, value in losses.items()}

    def _generator_step(
        self, images: Tensor, labels: Tensor, targets: Tensor, fakes: tuple[Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """Train the generator on the critic's view of the first fakes, and on the way back from the second."""
        settings = self.settings
        self.critic.requires_grad_(False)
        with self._precision():
            realness, logits = self.critic(fakes[0])
            back = self.generator(fakes[1], labels)
        adversarial = generator_loss(realness.float())
        attributes = attribute_loss(logits.float(), targets)
        reconstruction = reconstruction_loss(images, back.float())
        loss = adversarial + settings.lambda_cls * attributes + settings.lambda_rec * reconstruction
        self._generator_descent.backward(loss)
        self._generator_descent.apply()
        self.critic.requires_grad_(True)
        losses = {
            "generator": adversarial,
            "generator_cls": attributes,
            "reconstruction": reconstruction,
        }
        return {name: value.detach() for name, value in losses.items()}

    def _precision(self) -> AbstractContextManager[None]:
        return autocast(self.device, self.settings.precision)


def train_translator(
    pictures: LabelledImages,
    settings: TranslatorSettings,
    *,
    watch: RunContext,
    resume_path: Path,
    claim: RunFingerprint,
) -> tuple[Generator, list[dict[str, float]]]:
    """Train a generator; return it with the history of its losses.

    Args:
        pictures: training images.
        settings: settings of the training.
        watch: device, progress and stop signal.
        resume_path: file of the state of an unfinished training. The caller removes it.
        claim: identity of the training that the state belongs to.

    Raises:
        JobError: the training was stopped (its state is written first), or a loss is not finite.
    """
    training = TranslatorTraining(pictures, settings, watch.device)
    run_steps(training, watch, ResumeFile(resume_path, claim, settings.save_every))
    return training.generator, training.history


def learning_rate_at(settings: TranslatorSettings, step: int) -> float:
    """Return the learning rate of a step, counted from 1: constant, then a linear decay towards 0.

    The authors' program lowers it every 1000 steps. This one lowers it at each step.
    """
    falling = round(settings.decay * settings.num_steps)
    left = settings.num_steps - step + 1
    return settings.lr * min(1.0, left / falling) if falling else settings.lr


def losses_text(history: list[dict[str, float]]) -> str:
    """Return the history of losses as CSV."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    lines = [",".join(columns)]
    lines += [",".join(_cell(row, name) for name in columns) for row in history]
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, float], name: str) -> str:
    if name not in row:
        return ""
    return str(int(row[name])) if name == "step" else f"{row[name]:.6g}"


def critic_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """Return the loss of the critic without the gradient penalty.

    Args:
        kind: "wgan-gp" for mean(fake) - mean(real), equation 1 of WGAN-GP, or "hinge" for
            mean(max(0, 1 - real)) + mean(max(0, 1 + fake)).
        real: output of the critic for real images, of any shape.
        fake: output of the critic for translated images.
    """
    if kind == "hinge":
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Return the loss of the generator, -mean(fake), which is the same for both kinds of GAN."""
    return -fake.mean()


def gradient_penalty(
    realness: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor
) -> Tensor:
    """Return the mean of (‖∇‖₂ - 1)² over points between real and fake images.

    Source: I. Gulrajani et al., Improved Training of Wasserstein GANs, 2017, equation 3.

    Args:
        realness: the realness output of the critic as a function of images.
        real: real images, N×C×H×W.
        fake: translated images, N×C×H×W, without gradient.
        share: weight of the real image in each point, N×1×1×1 in 0 … 1.
    """
    between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
    outputs = realness(between)
    (slopes,) = torch.autograd.grad(outputs.sum(), between, create_graph=True)
    lengths: Tensor = slopes.flatten(1).norm(dim=1)
    return ((lengths - 1) ** 2).mean()


def attribute_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross-entropy, summed over the attributes and averaged over the images.

    Args:
        logits: logits of the attributes, N×K.
        labels: attributes, N×K, 0 or 1.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    return entropy / len(logits)


def reconstruction_loss(images: Tensor, back: Tensor) -> Tensor:
    """Return the mean absolute difference between images and the images translated back."""
    return (images - back).abs().mean()
