"""The training of a StarGAN: steps of the critic, every n-th with one of the generator.

Every batch is a function of its step, and there is no other chance: a training that was killed goes on
from its last state in the same bits.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from trueface.runtime.errors import JobError
from trueface.runtime.precision import autocast
from trueface.runtime.progress import Watch
from trueface.runtime.rng import derive
from trueface.translation import resume
from trueface.translation.losses import (
    attribute_loss,
    critic_loss,
    generator_loss,
    gradient_penalty,
    reconstruction_loss,
)
from trueface.translation.networks import (
    Generator,
    GeneratorShape,
    build_critic,
    build_generator,
)
from trueface.translation.pictures import Batch, Pictures
from trueface.translation.resume import Claim, State
from trueface.translation.settings import TranslatorSettings

Network = TypeVar("Network", bound=nn.Module)

ROWS = 200  # of the history, at most


class Training:
    """Generator, critic and their optimizers between two steps.

    Args:
        settings: of the training.
        classes: attributes.
        device: where it works.
    """

    def __init__(self, settings: TranslatorSettings, classes: int, device: str) -> None:
        self.settings, self.device, self.step = settings, device, 0
        self.history: list[dict[str, float]] = []
        self.losses: dict[
            str, float
        ] = {}  # the latest of each: not every step trains the generator
        shape = GeneratorShape(classes, settings.width, settings.blocks)
        seeds = [derive(f"translator/{part}", settings.seed) for part in ("generator", "critic")]
        self.generator = self._placed(build_generator(shape, seed=seeds[0]))
        self.critic = self._placed(build_critic(settings, classes, seed=seeds[1]))
        self.generator_optimizer = self._optimizer(self.generator)
        self.critic_optimizer = self._optimizer(self.critic)

    def _placed(self, network: Network) -> Network:
        network.to(memory_format=torch.channels_last)
        return network.to(self.device).train()

    def _optimizer(self, network: nn.Module) -> torch.optim.Adam:
        betas = self.settings.beta1, self.settings.beta2
        return torch.optim.Adam(network.parameters(), self.settings.lr, betas)

    def advance(self, batch: Batch) -> dict[str, float]:
        """Do a step; return its losses, which are also the latest of `losses`.

        Raises:
            JobError: a loss is not a number.
        """
        settings = self.settings
        self.step += 1
        for optimizer in (self.generator_optimizer, self.critic_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = rate(settings, self.step)
        trains_generator = self.step % settings.n_critic == 0
        images, labels, targets, share = (
            each.to(self.device)
            for each in (batch.images, batch.labels, batch.targets, batch.share)
        )
        with torch.set_grad_enabled(trains_generator), self._precision():
            fake = self.generator(images, targets)
        losses = self._critic_step(images, labels, fake.detach().float(), share)
        if trains_generator:
            losses |= self._generator_step(images, labels, targets, fake)
        for name, loss in losses.items():
            if not math.isfinite(loss):
                other = "" if settings.gan == "hinge" else ", or use gan: hinge"
                raise JobError(
                    f"the loss {name!r} is {loss} at step {self.step} of {settings.num_steps}; lower lr "
                    f"({settings.lr:g}){other}"
                )
        self.losses |= losses
        return losses

    def _critic_step(
        self, images: Tensor, labels: Tensor, fake: Tensor, share: Tensor
    ) -> dict[str, float]:
        settings = self.settings
        with self._precision():
            realness, logits = self.critic(torch.cat((images, fake)))
        count = len(images)
        realness, logits = realness.float(), logits.float()
        adversarial = critic_loss(settings.gan, realness[:count], realness[count:])
        attributes = attribute_loss(logits[:count], labels)
        loss = adversarial + settings.lambda_cls * attributes
        losses = {"critic": adversarial, "critic_cls": attributes}
        if settings.gan == "wgan-gp":  # its second derivative is taken in float32
            penalty = gradient_penalty(lambda between: self.critic(between)[0], images, fake, share)
            loss = loss + settings.lambda_gp * penalty
            losses["penalty"] = penalty
        _descend(self.critic_optimizer, loss)
        return {name: value.item() for name, value in losses.items()}

    def _generator_step(
        self, images: Tensor, labels: Tensor, targets: Tensor, fake: Tensor
    ) -> dict[str, float]:
        settings = self.settings
        self.critic.requires_grad_(False)
        with self._precision():
            realness, logits = self.critic(fake)
            back = self.generator(fake, labels)
        adversarial = generator_loss(realness.float())
        attributes = attribute_loss(logits.float(), targets)
        reconstruction = reconstruction_loss(images, back.float())
        loss = adversarial + settings.lambda_cls * attributes + settings.lambda_rec * reconstruction
        _descend(self.generator_optimizer, loss)
        self.critic.requires_grad_(True)
        losses = {
            "generator": adversarial,
            "generator_cls": attributes,
            "reconstruction": reconstruction,
        }
        return {name: value.item() for name, value in losses.items()}

    def _precision(self) -> AbstractContextManager[None]:
        return autocast(self.device, self.settings.precision)

    @property
    def state(self) -> State:
        """What is needed to go on from here."""
        return State(
            step=self.step,
            generator=self.generator.state_dict(),
            critic=self.critic.state_dict(),
            generator_optimizer=self.generator_optimizer.state_dict(),
            critic_optimizer=self.critic_optimizer.state_dict(),
            history=self.history,
            losses=self.losses,
        )

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.step, self.history = state.step, list(state.history)
        self.losses = dict(state.losses)
        self.generator.load_state_dict(dict(state.generator))
        self.critic.load_state_dict(dict(state.critic))
        self.generator_optimizer.load_state_dict(dict(state.generator_optimizer))
        self.critic_optimizer.load_state_dict(dict(state.critic_optimizer))


def train_translator(
    pictures: Pictures,
    settings: TranslatorSettings,
    *,
    watch: Watch,
    resume_path: Path,
    claim: Claim,
) -> tuple[Generator, list[dict[str, float]]]:
    """Train a generator; return it with the history of its losses.

    Args:
        pictures: what it learns from.
        settings: of the training.
        watch: device, progress and stop.
        resume_path: where its state is kept until it is done; removed by the caller.
        claim: what tells its state from another training's.

    Raises:
        JobError: stopped, after its state was written; or a loss is not a number.
    """
    training = Training(settings, pictures.labels.shape[1], watch.device)
    if (state := resume.find(resume_path, claim)) is not None:
        training.restore(state)
    every = max(1, settings.num_steps // ROWS)
    batches = pictures.batches(
        training.step + 1,
        settings.num_steps,
        settings.batch_size,
        flip=settings.flip,
        seed=settings.seed,
    )
    for batch in batches:
        training.advance(batch)
        step = training.step
        if step % every == 0:
            training.history.append({"step": step, **training.losses})
        watch.progress(step=step, total=settings.num_steps, **training.losses)
        stopped = watch.stop.is_set() and step < settings.num_steps
        if stopped or (step % settings.save_every == 0 and step < settings.num_steps):
            resume.save(resume_path, claim, training.state)
        if stopped:
            raise JobError(
                f"stopped after {step} of {settings.num_steps} steps; the next attempt goes on from there"
            )
    return training.generator, training.history


def rate(settings: TranslatorSettings, step: int) -> float:
    """Return the learning rate of a step, from 1: constant, then falling in a line towards 0.

    The authors' program lowers it every 1000 steps, ours at each one.
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


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
    optimizer.step()
