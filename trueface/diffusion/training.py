"""The training of a diffuser: a number of steps, each from a batch of its own random stream.

A training that was stopped or killed goes on where it was, to the same bits: on the same machine, with
the same number of threads.
"""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam

from trueface.diffusion import resume
from trueface.diffusion.assembly import build_network
from trueface.diffusion.batches import Batch, BatchSource
from trueface.diffusion.course import Course, learning_rate, write_history
from trueface.diffusion.diffuser import Diffuser
from trueface.diffusion.ema import Ema
from trueface.diffusion.images import digest
from trueface.diffusion.network import NetworkShape
from trueface.diffusion.schedule import make_schedule
from trueface.diffusion.settings import DiffuserSettings
from trueface.runtime import paths
from trueface.runtime.errors import DataError, JobError, UnknownName
from trueface.runtime.precision import autocast
from trueface.runtime.progress import REPORT_EVERY_S, Watch
from trueface.runtime.timer import now

SAVE_EVERY_S = 20.0  # what a killed training loses at most
LONGEST_GRADIENT = 1.0  # longer ones are shortened to it: early steps of large t


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A diffuser with the average weights of its training, and what that was."""

    diffuser: Diffuser
    rows: tuple[tuple[float, ...], ...]  # of the history: step, mean loss since the last row, …
    seconds: float  # interruptions not counted

    @property
    def loss(self) -> float:
        """Mean of the last row."""
        return self.rows[-1][1]


def train_diffuser(
    images: Tensor,
    labels: Tensor | None,
    settings: DiffuserSettings,
    *,
    class_names: Sequence[str] = (),
    watch: Watch | None = None,
    folder: Path | None = None,
) -> Diffuser:
    """Return a diffuser trained on images; see `fit`."""
    named = class_names or _numbered(labels)
    return fit(images, labels, settings, class_names=named, watch=watch, folder=folder).diffuser


def fit(
    images: Tensor,
    labels: Tensor | None,
    settings: DiffuserSettings,
    *,
    class_names: Sequence[str] = (),
    watch: Watch | None = None,
    folder: Path | None = None,
) -> Trained:
    """Train a diffuser.

    Args:
        images: N×C×H×W, uint8.
        labels: (N,) their classes; None: unconditional.
        settings: checked.
        class_names: in the order of the labels; empty: unconditional.
        watch: device, precision, progress, stop.
        folder: where resume.pt and history.csv are kept; None: nowhere.

    Raises:
        DataError: the images are of another size than the settings', or none is left.
        UnknownName: the class to leave out is none of the classes.
        JobError: stopped, or the loss is no finite number.
    """
    _refuse_other_shape(images, settings)
    claim = _claim(settings, digest(images, labels, class_names))
    training = _Training(
        *_without(images, labels, class_names, settings.without),
        settings,
        class_names,
        watch or Watch(),
    )
    training.run(claim, folder)
    return Trained(
        diffuser=training.result(),
        rows=tuple(map(tuple, training.course.rows)),
        seconds=training.course.seconds,
    )


class _Training:
    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        settings: DiffuserSettings,
        class_names: Sequence[str],
        watch: Watch,
    ) -> None:
        self.settings, self.names, self.watch = settings, tuple(class_names), watch
        self.source = BatchSource(
            images=images,
            labels=labels,
            classes=len(self.names),
            settings=settings,
            device=watch.device,
        )
        shape = NetworkShape(
            network=settings.network,
            size=settings.size,
            channels=settings.channels,
            classes=len(self.names),
            embedding=settings.embedding_width,
            widths=settings.network_widths,
            unshuffle=settings.unshuffle,
            attention=settings.attention,
        )
        self.network = build_network(shape, seed=settings.seed).to(watch.device).train()
        self.average = Ema(self.network, settings.ema)
        self.schedule = make_schedule(settings.schedule, settings.noise_steps)
        # fused is one pass over all parameters: on a CPU three times as fast as a loop over them
        self.optimizer = Adam(self.network.parameters(), lr=settings.learning_rate, fused=True)
        self.course = Course()

    def result(self) -> Diffuser:
        """Return the diffuser of the average weights."""
        return Diffuser(
            network=self.average.network,
            schedule=self.schedule,
            prediction=self.settings.prediction,
            t_max=self.settings.latest_t,
            size=self.settings.size,
            channels=self.settings.channels,
            class_names=self.names,
            has_null=self.settings.dropped(len(self.names)) > 0,
        )

    def run(self, claim: str, folder: Path | None) -> None:
        """Take all steps that are left, and keep the state now and then."""
        if folder is not None:
            self._restore(resume.load(paths.resume(folder), claim))
        course, total = self.course, self.settings.num_steps
        started = now() - course.seconds
        saved, reported = time.monotonic(), -math.inf
        while course.step < total:
            if self.watch.stop.is_set():
                self._save(claim, folder)
                raise JobError(f"stopped after step {course.step} of {total}")
            loss = self._step()
            course.seconds = now() - started
            course.note(loss, learning_rate(self.settings, course.step - 1), total)
            if time.monotonic() - reported >= REPORT_EVERY_S or course.step == total:
                reported = time.monotonic()
                self._report()
            if course.step < total and self._is_due(saved):
                saved = time.monotonic()
                self._save(claim, folder)
        if folder is not None:
            write_history(paths.history(folder), course.rows)

    def _step(self) -> float:
        step = self.course.step
        lr = learning_rate(self.settings, step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss = self._loss(self.source.batch(step))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise JobError(
                f"the loss became {value} in step {step + 1} of {self.settings.num_steps}, at lr "
                f"{lr:.3g}, batch_size {self.settings.batch_size}, precision "
                f"{self.settings.precision}; take a lower lr"
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        clip_grad_norm_(self.network.parameters(), LONGEST_GRADIENT)
        self.optimizer.step()
        self.average.update(self.network)
        self.course.step += 1
        return value

    def _loss(self, batch: Batch) -> Tensor:
        noisy = self.schedule.noised(batch.images, batch.t, batch.noise)
        table = self.network.table
        target = batch.noise
        if self.settings.prediction == "v":
            signal = self.schedule.signal(batch.t, noisy)
            target = signal * batch.noise - self.schedule.sigma(batch.t, noisy) * batch.images
        with autocast(self.watch.device, self.settings.precision):
            embedding = None if table is None else table(batch.labels)
            answer = self.network(noisy, batch.t.to(self.watch.device), embedding)
        return torch.nn.functional.mse_loss(answer.float(), target)

    def _report(self) -> None:
        course, settings = self.course, self.settings
        self.watch.progress(
            step=course.step,
            total=settings.num_steps,
            loss=course.loss,
            lr=learning_rate(settings, course.step - 1),
            images_per_s=course.step * settings.batch_size / max(course.seconds, 1e-9),
        )

    def _is_due(self, saved: float) -> bool:
        every = self.settings.save_every
        return self.course.step % every == 0 if every else time.monotonic() - saved > SAVE_EVERY_S

    def _save(self, claim: str, folder: Path | None) -> None:
        if folder is None:
            return
        state = resume.Interrupted(
            claim=claim,
            step=self.course.step,
            network=self.network.state_dict(),
            average=self.average.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            rows=self.course.rows,
            pending=self.course.pending,
            seconds=self.course.seconds,
        )
        resume.save(paths.resume(folder), state)
        write_history(paths.history(folder), self.course.rows)

    def _restore(self, state: resume.Interrupted | None) -> None:
        if state is None:
            return
        self.network.load_state_dict(state.network)
        self.average.network.load_state_dict(state.average)
        self.average.steps = state.step
        self.optimizer.load_state_dict(state.optimizer)
        self.course = Course(state.step, state.rows, state.pending, state.seconds)


def _without(
    images: Tensor, labels: Tensor | None, names: Sequence[str], unwanted: str
) -> tuple[Tensor, Tensor | None]:
    if not unwanted:
        return images, labels
    if labels is None:
        raise DataError(f"there are no classes, and {unwanted!r} shall be left out of them")
    if unwanted not in names:
        raise UnknownName("class", unwanted, names)
    kept = labels != names.index(unwanted)
    if not bool(kept.any()):
        raise DataError(f"no image is left without the class {unwanted}")
    return images[kept], labels[kept]


def _refuse_other_shape(images: Tensor, settings: DiffuserSettings) -> None:
    wanted = (settings.channels, settings.size, settings.size)
    if images.dim() != 4 or tuple(images.shape[1:]) != wanted or not len(images):
        raise DataError(f"images {tuple(images.shape)}, and (N, {wanted}) are needed")


def _claim(settings: DiffuserSettings, images: str) -> str:
    """Return the fingerprint of all that decides a training's result."""
    values = settings.model_dump(mode="json", exclude={"data_root", *settings.neutral})
    text = json.dumps([images, torch.__version__, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _numbered(labels: Tensor | None) -> tuple[str, ...]:
    return () if labels is None else tuple(map(str, range(int(labels.max()) + 1)))
