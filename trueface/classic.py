"""The command line of the original train.py: `python -m trueface --name R --task train …`.

All its flags are here under their old names, and every setting of a training or test as a flag.
Files lie where the original put them, runs/<name>/<save_id>/…; no launcher is needed.
"""

import argparse
import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from launcher.api import (
    DataId,
    Draft,
    Job,
    Json,
    ModelId,
    Poison,
    Settings,
    Stage,
    UnknownName,
    UsageError,
    nearest,
    parse_data,
    parse_model,
    parse_poison,
)
from trueface import layout, subsets
from trueface.exits import exit_code
from trueface.flags import CLASSIC_DEFAULTS, checked, default, is_range, is_truth
from trueface.kinds import POISON, TEST, TRAIN, refuse_missing
from trueface.poison import FLIP, KINDS
from trueface.settings import PoisonSettings, TestSettings, TrainSettings

Known = TypeVar("Known", bound=Settings)

TASKS = ("train", "test")
VOCABULARY: Mapping[str, FieldInfo] = {
    **PoisonSettings.model_fields,
    **TestSettings.model_fields,
    **TrainSettings.model_fields,
}
# Flags that are no settings, with what they mean.
OWN: Mapping[str, str] = {
    "name": "run: results go to runs/NAME/ (default: test)",
    "task": "train or test",
    "data": "data ID, such as gan2:pre&real:pre",
    "save_id": "folder of the trained model (default: LOAD_ID#DATA, or DATA)",
    "load_id": "model to test, or to start from",
    "device": "cpu or cuda:N (default: cuda:0, or cpu where there is no CUDA)",
    "poison_rate": "share of the training labels to flip, 0 to 1 (default: 0)",
    "poison_kind": "f2r flips fakes only, r2f reals only (default: any label)",
    "resume_from": "not supported, as in the original",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicJob(Job):
    """A job whose model lies in a folder of the user's choice, not in one named by its ID."""

    saved_as: str  # the name of that folder

    def model_folder(self, model: str) -> Path:
        """Return where a model lies: the job's own where the user said, others by their names."""
        return self.run_folder / (self.saved_as if model == self.model else model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command line, understood."""

    argv: tuple[str, ...]
    task: str
    run: str
    data: DataId
    model: str  # its ID: what it is made from; of a test, the name of its folder
    saved_as: str  # the name of its folder
    base: str | None
    poison: Poison | None
    device: str
    settings: Mapping[str, Any]  # as typed

    @property
    def folder(self) -> Path:
        """Where the model lies."""
        return Path.cwd() / "runs" / self.run / self.saved_as

    @property
    def log(self) -> Path:
        """Where this command line logs."""
        model = self.base if self.task == "train" else self.saved_as
        return layout.log(self.folder, self.task, model, str(self.data))


def main(argv: Sequence[str]) -> int:
    """Do what the command line says and return the exit code."""
    return exit_code(partial(_run, argv))


def _run(argv: Sequence[str]) -> None:
    request = read(argv)
    if request.task == "test":
        _test(request)
    else:
        _train(request)


def read(argv: Sequence[str]) -> Request:
    """Understand a command line.

    Raises:
        UsageError: a flag, a name or a value that cannot be.
    """
    given = _parse(argv)
    own = {name: given.pop(name, None) for name in OWN}
    given.pop("features", None)
    task = _task(own["task"])
    if not _is_off(own["resume_from"]):
        raise UsageError("--resume_from is not supported, as in the original: start again")
    if own["data"] is None:
        raise UsageError("--data is needed: a data ID, such as 'gan2:pre&real:pre'")
    data = subsets.as_named(parse_data(own["data"]))
    flags = [flag for flag in ("name", "load_id", "save_id") if own[flag] is not None]
    named = {flag: layout.folder_name(f"--{flag}", own[flag]) for flag in flags}
    base = named.get("load_id")
    if task == "train":
        poison = _poison(own["poison_rate"] or "0", own["poison_kind"])
        model = str(_model(base, Stage(data, poison)))
        saved_as = named.get("save_id") or layout.folder_name("--save_id", model)
    elif base is not None:
        poison, model, saved_as, base = None, base, base, None
    else:
        raise UsageError("--load_id is needed: which model to test")
    return Request(
        argv=tuple(argv),
        task=task,
        run=named.get("name", "test"),
        data=data,
        model=model,
        saved_as=saved_as,
        base=base,
        poison=poison,
        device=own["device"] or "cuda:0",
        settings={**CLASSIC_DEFAULTS, **given},
    )


def _train(request: Request) -> None:
    settings = settings_of(TrainSettings, request)
    choice = settings_of(PoisonSettings, request)
    images = subsets.images(request.data)
    # the poison record is made here, so it is no input
    refuse_missing(TRAIN, _draft(request, settings, model=str(request.data)))
    # torch takes seconds to import; help and wrong arguments must not wait for it
    from trueface import foreground

    with foreground.logged(request.log):
        log.info("command=%s", shlex.join(request.argv))
        if images != request.data:
            log.warning("data=%s reason=a training needs real images, so they were added", images)
        job = partial(_job, request, images=str(images), device=foreground.device(request.device))
        record = layout.poison_record(request.folder)
        if request.poison is not None:
            foreground.perform(POISON, partial(job, kind="poison", settings=choice))
        elif record.exists():
            record.unlink()  # of an earlier training; it would tell of flips that are none now
        result = foreground.perform(TRAIN, partial(job, kind="train", settings=settings))
        log.info("result=%s", result)
    _tell(result, layout.checkpoint(request.folder) if settings.save_weights else None, request)


def _test(request: Request) -> None:
    settings = settings_of(TestSettings, request)
    network = settings_of(TrainSettings, request).model  # checks what a test does not need, too
    refuse_missing(TEST, _draft(request, settings, model=request.model))
    from trueface import checkpoint, foreground  # as above

    if "model" in request.settings:
        checkpoint.restore(layout.checkpoint(request.folder), arch=network)

    with foreground.logged(request.log):
        log.info("command=%s", shlex.join(request.argv))
        job = partial(_job, request, device=foreground.device(request.device))
        result = foreground.perform(TEST, partial(job, kind="test", settings=settings))
        log.info("result=%s", result)
    scores = layout.scores(request.folder, request.model, str(request.data))
    _tell(result, scores if settings.save_scores else None, request)


def _draft(request: Request, settings: Settings, *, model: str) -> Draft:
    return Draft(
        kind=request.task,
        run=request.run,
        run_folder=request.folder.parent,
        folder=Path.cwd(),
        model=model,
        base=request.base,
        data=str(request.data),
        settings=settings.model_dump(mode="json"),
    )


def _job(request: Request, *, kind: str, settings: Settings, **others: Any) -> ClassicJob:
    return ClassicJob(
        name=f"{kind}/{request.model}",
        kind=kind,
        run=request.run,
        run_folder=request.folder.parent,
        folder=Path.cwd(),
        attempt_folder=request.folder,
        attempt=1,
        model=request.model,
        saved_as=request.saved_as,
        base=request.base,
        data=str(request.data),
        settings=settings.model_dump(mode="json"),
        **others,
    )


def _tell(result: Mapping[str, Json], made: Path | None, request: Request) -> None:
    for key, value in result.items():
        click.echo(f"{key}\t{value:.6g}" if isinstance(value, float) else f"{key}\t{value}")
    for path in (made, request.log):
        if path is not None:
            click.echo(f"wrote {path.relative_to(Path.cwd())}", err=True)


def settings_of(model: type[Known], request: Request) -> Known:
    """Return the settings of one kind among those of the command line, completed and checked."""
    given = {key: value for key, value in request.settings.items() if key in model.model_fields}
    if str(given.get("num_threads", "")).startswith("-"):
        given["num_threads"] = len(os.sched_getaffinity(0))  # the original: all cores
    return checked(model, given)


def _task(name: str | None) -> str:
    if not name:
        raise UsageError("--task is needed: train or test")
    if name not in TASKS:
        raise UnknownName("task", name, TASKS)
    return name


def _is_off(epoch: str | None) -> bool:
    """Tell whether --resume_from asks for nothing, as -1 does."""
    return epoch is None or (epoch.startswith("-") and epoch[1:].isdecimal()) or epoch == "0"


def _poison(rate: str, kind: str | None) -> Poison | None:
    try:
        percent = Decimal(rate) * 100
    except InvalidOperation as error:
        raise UsageError(f"--poison_rate {rate!r} is no number from 0 to 1") from error
    if not 0 <= percent <= 100:
        raise UsageError(f"--poison_rate {rate} is not within 0 to 1")
    if kind is not None and kind not in KINDS:
        raise UnknownName("--poison_kind", kind, KINDS)
    prefix = "" if kind in {None, FLIP} else f"{kind}-"
    return parse_poison(f"{prefix}{percent:f}")


def _model(base: str | None, stage: Stage) -> ModelId:
    """Return the ID that says what a training makes; a base of any name is left out of it."""
    try:
        return ModelId((stage,)) if base is None else parse_model(base).then(stage)
    except UsageError:
        return ModelId((stage,))


def _parse(argv: Sequence[str]) -> dict[str, Any]:
    parser = _Parser(
        prog="python -m trueface",
        description="Train or test a detector, as the original train.py did.",
        epilog="Other commands: trueface --help.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for name, text in OWN.items():
        parser.add_argument(f"--{name}", help=text)
    parser.add_argument(
        "--features", action="store_true", help="without effect, as in the original"
    )
    for key, field in VOCABULARY.items():
        text = _help(key, field)
        if is_truth(field):
            parser.add_argument(f"--{key}", action=argparse.BooleanOptionalAction, help=text)
        else:
            parser.add_argument(f"--{key}", nargs="+" if is_range(field) else None, help=text)
    given, unknown = parser.parse_known_args(argv)
    for word in unknown:
        flag = word.partition("=")[0]
        close = nearest(flag, (f"--{name}" for name in (*OWN, *VOCABULARY)))
        raise UsageError(
            f"unknown argument {word!r}" + (f", did you mean {close}?" if close else "")
        )
    return vars(given)


def _help(key: str, field: FieldInfo) -> str:
    value = default(key, field)
    if isinstance(value, tuple):
        value = " ".join(map(str, dict.fromkeys(value)))
    shown = "" if value is PydanticUndefined else f" (default: {value})"
    return f"{field.description}{shown}".replace("%", "%%")


class _Parser(argparse.ArgumentParser):
    """Tells its errors as the rest of the laboratory does."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)
