"""The command line of the original train.py: `python -m trueface --name R --task train …`.

All its flags are here under their old names, and every setting of a training or test as a flag.
Files lie where the original put them, runs/<name>/<save_id>/…; no launcher is needed.
"""

import argparse
import logging
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

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
    Words,
    meant,
    model_folder_name,
    parse_data,
    parse_model,
    parse_poison,
    tested,
)
from trueface.cli import run_here
from trueface.cli.main import exit_code
from trueface.data.settings import TestSettings
from trueface.jobs.flags import (
    CLASSIC_DEFAULTS,
    WORD_HELP,
    WORD_SHAPE,
    checked,
    default,
    is_range,
    is_truth,
    read_word_flags,
)
from trueface.jobs.job_kind import refuse_unfit
from trueface.jobs.kinds import POISON, TEST, TRAIN
from trueface.poisoning.poison_record import FLIP, KINDS, PoisonSettings
from trueface.runtime import logs, paths
from trueface.training.settings import TrainSettings


class Parser(argparse.ArgumentParser):
    """Reads the flags of an original program, and reports errors as the rest of the laboratory does."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError` where argparse would end the program."""
        raise UsageError(message)

    def add_setting(
        self, key: str, field: FieldInfo, text: str, *, truth: str | None = None, **default: Any
    ) -> None:
        """Add the flag of a setting; of one that is true or false also --no-KEY.

        Args:
            key: its name.
            field: what it takes.
            text: its help.
            truth: how help calls the value of one that is true or false; None: as the setting.
            default: where the parser has no other for all.
        """
        if not is_truth(field):
            self.add_argument(
                f"--{key}", nargs="+" if is_range(field) else None, help=text, **default
            )
            return
        self.add_argument(f"--{key}", nargs="?", const="true", metavar=truth, help=text, **default)
        self.add_argument(f"--no-{key}", dest=key, action="store_const", const="false")

    def understood(self, argv: Sequence[str], known: Iterable[str] | None = None) -> dict[str, Any]:
        """Return what flags gave.

        Args:
            argv: the command line.
            known: names of flags that one may have meant; by default all that have a value.

        Raises:
            UsageError: an unknown flag, with the nearest one, or a flag without its value.
        """
        namespace, unknown = self.parse_known_args(argv)
        given = vars(namespace)
        for word in unknown:
            flags = (f"--{name}" for name in known or given)
            raise UsageError(f"unknown argument {word!r}{meant(word.partition('=')[0], flags)}")
        return given


Known = TypeVar("Known", bound=Settings)
TASKS = ("train", "test")
VOCABULARY: Mapping[str, FieldInfo] = {
    **PoisonSettings.model_fields,
    **TestSettings.model_fields,
    **TrainSettings.model_fields,
}
# Flags that are no settings, with what they mean.
OWN: Mapping[str, str] = {
    "name": "run; results go to runs/NAME/ (default: test)",
    "task": "train or test",
    "data": "data ID, such as gan2:pre&real:pre",
    "save_id": "folder of the trained model (default: LOAD_ID#DATA, or DATA)",
    "load_id": "model to test, or to start from",
    "device": "cpu or cuda:N (default: cuda:0, or cpu where there is no CUDA)",
    "poison_rate": "fraction of the training labels to flip, 0 to 1 (default: 0)",
    "poison_kind": "f2r flips fakes only, r2f reals only, patch is a backdoor (default: any label)",
    "resume_from": "resume after this epoch, or fail (default: where the training was interrupted)",
}


class ClassicRequest(NamedTuple):
    """A command line, understood."""

    argv: tuple[str, ...]
    task: str
    run: str
    data: DataId
    model: str  # its ID: what it is made from; of a test, what it was saved as
    saved_as: str  # by which its folder is named
    base: str | None
    poison: Poison | None
    keep_poison: bool  # take the record that is there
    preview: bool  # write a contact sheet instead of training
    resume_from: int  # epoch; 0: any
    words: Words
    device: str
    settings: Mapping[str, Any]  # as typed

    @property
    def folder(self) -> Path:
        """Where the model lies."""
        return Path.cwd() / "runs" / self.run / model_folder_name(self.saved_as)

    @property
    def log(self) -> Path:
        """Where this command line logs."""
        model = self.base if self.task == "train" else self.saved_as
        return paths.log(self.folder, self.task, model, str(self.data))


class _Models(NamedTuple):
    """The model that a command line makes or tests, and what it is made from."""

    model: str
    saved_as: str
    base: str | None
    poison: Poison | None


def read(argv: Sequence[str]) -> ClassicRequest:
    """Understand a command line.

    Raises:
        UsageError: a flag, a name or a value that cannot be.
    """
    given = _parse(argv)
    own = {name: given.pop(name, None) for name in OWN}
    words = read_word_flags(
        given.pop("subsets", ()), given.pop("modifiers", ()), given.get("data_root")
    )
    keep_poison = given.pop("keep_poison", False)
    preview = given.pop("preview", False)
    task = _task(own["task"])
    if own["data"] is None:
        raise UsageError("--data is required: a data ID, such as 'gan2:pre&real:pre'")
    data = TEST.with_words(words).images(parse_data(own["data"]))
    models = _models(task, own, data)
    return ClassicRequest(
        argv=tuple(argv),
        task=task,
        run=paths.folder_name("--name", "test" if own["name"] is None else own["name"]),
        data=data,
        model=models.model,
        saved_as=models.saved_as,
        base=models.base,
        poison=models.poison,
        keep_poison=keep_poison,
        preview=preview,
        resume_from=_epoch(own["resume_from"]),
        words=words,
        device=own["device"] or "cuda:0",
        settings={**CLASSIC_DEFAULTS, **given},
    )


def settings_of(model: type[Known], request: ClassicRequest) -> Known:
    """Return the settings of one kind among those of the command line, completed and checked."""
    given = {key: value for key, value in request.settings.items() if key in model.model_fields}
    for name, leader in model.followed(given).items():
        if leader in request.settings:
            given.setdefault(name, request.settings[leader])
    if str(given.get("num_threads", "")).startswith("-"):
        given["num_threads"] = len(os.sched_getaffinity(0))  # the original: all cores
    return checked(model, given)


def _task(name: str | None) -> str:
    if not name:
        raise UsageError("--task is required: train or test")
    if name not in TASKS:
        raise UnknownName("task", name, TASKS)
    return name


def _epoch(text: str | None) -> int:
    """Return the epoch of --resume_from; 0 where it asks for none, as -1 does."""
    try:
        return max(int(text or 0), 0)
    except ValueError as error:
        raise UsageError(f"--resume_from {text!r} is not an epoch number") from error


def percent_of(rate: str) -> Decimal | None:
    """Return the percentage of --poison_rate; None where it is not within 0 to 1.

    Raises:
        UsageError: it is no number.
    """
    try:
        percent = Decimal(rate) * 100
        is_within = 0 <= percent <= 100
    except InvalidOperation as error:
        raise UsageError(f"--poison_rate {rate!r} is not a number from 0 to 1") from error
    return percent if is_within else None


def _poison(rate: str, kind: str | None) -> Poison | None:
    percent = percent_of(rate)
    if percent is None:
        raise UsageError(f"--poison_rate {rate} is not between 0 and 1")
    if kind is not None and kind not in KINDS:
        raise UnknownName("--poison_kind", kind, KINDS)
    prefix = "" if kind in {None, FLIP} else f"{kind}-"
    return parse_poison(f"{prefix}{percent:f}")


def _models(task: str, own: Mapping[str, str | None], data: DataId) -> _Models:
    """Return which model is made or tested, and from what."""
    base = own["load_id"]
    if base is not None:
        paths.model_folder("--load_id", base)
    if task == "train":
        poison = _poison(own["poison_rate"] or "0", own["poison_kind"])
        model, saved_as = _names(base, own["save_id"], Stage(data, poison))
        return _Models(model=model, saved_as=saved_as, base=base, poison=poison)
    if base is None:
        raise UsageError("--load_id is required: the model to test")
    return _Models(model=base, saved_as=base, base=None, poison=None)


def _names(base: str | None, save_id: str | None, stage: Stage) -> tuple[str, str]:
    """Return a training's model ID, and what it is saved as."""
    model = str(_model(base, stage))
    saved_as = model if save_id is None else save_id
    paths.model_folder("--save_id", saved_as)
    try:
        named = parse_model(saved_as)
    except UsageError:
        return model, saved_as
    # an ID that says the same, and with which settings besides: `gan2:pre@lr=0.001`
    same = replace(named, stages=(*named.stages[:-1], replace(named.last, variant=())))
    return (saved_as if str(same) == model else model), saved_as


def _model(base: str | None, stage: Stage) -> ModelId:
    """Return the ID that says what a training makes; a base of any name is left out of it."""
    try:
        return ModelId((stage,)) if base is None else parse_model(base).then(stage)
    except UsageError:
        return ModelId((stage,))


def _parse(argv: Sequence[str]) -> dict[str, Any]:
    parser = Parser(
        prog="python -m trueface",
        description="Train or test a detector, as the original train.py did.",
        epilog="Other commands: trueface --help.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for name, text in OWN.items():
        parser.add_argument(f"--{name}", help=text)
    parser.add_argument(
        "--keep_poison", action="store_true", help="use the existing poison.json of the model"
    )
    parser.add_argument(
        "--preview",
        action="store_true",
        help="write the input of the network to preview.png in the folder of the model; do not train",
    )
    for name, text in WORD_HELP.items():
        parser.add_argument(f"--{name}", nargs="+", action="extend", metavar=WORD_SHAPE, help=text)
    for key, field in VOCABULARY.items():
        parser.add_setting(key, field, _help(key, field), truth="TRUE")
    return parser.understood(argv, (*OWN, *WORD_HELP, "keep_poison", "preview", *VOCABULARY))


def _help(key: str, field: FieldInfo) -> str:
    value = default(key, field)
    return help_text(f"{field.description}", None if value is PydanticUndefined else value)


def help_text(description: str, value: object) -> str:
    """Return the help of a setting, with its default where it has one."""
    if isinstance(value, tuple):
        value = " ".join(map(str, dict.fromkeys(value)))
    shown = "" if value is None else f" (default: {value})"
    return f"{description}{shown}".replace("%", "%%")


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicJob(Job):
    """A job with models in folders of the user's choice, not in those named by their IDs."""

    folders: Mapping[str, Path]  # by model ID

    def model_folder(self, model: str) -> Path:
        """Return where a model lies: where the user said, else by its name."""
        return self.folders.get(model) or self.run_folder / model_folder_name(model)


def main(argv: Sequence[str]) -> int:
    """Do what the command line says and return the exit code."""
    return exit_code(partial(_run, argv))


def _run(argv: Sequence[str]) -> None:
    request = read(argv)
    if request.task == "test":
        _test(request)
    else:
        _train(request)


def _train(request: ClassicRequest) -> None:
    settings = settings_of(TrainSettings, request)
    choice = settings_of(PoisonSettings, request)
    train = TRAIN.with_words(request.words)
    images = train.images(request.data)
    # without its poison: the record is made here, so it is no input
    refuse_unfit(train, _draft(request, settings, model=str(request.data)))
    record = paths.poison_record(request.folder)
    if request.poison is not None and request.keep_poison and not record.exists():
        raise UsageError(
            f"{record} is missing: the poison record of {request.saved_as}. Make it with trueface "
            "poison, or leave out --keep_poison."
        )
    # torch takes seconds to import; help and wrong arguments must not wait for it
    from trueface.jobs.previewing import preview

    _refuse_other_epoch(request)
    if request.preview:
        chosen = None if request.poison is None or request.keep_poison else choice
        shown = _job(
            request, kind="train", settings=settings, images=str(images), device="cpu", cpus=1
        )
        with logs.shown():
            _tell(preview(shown, chosen), None, None)
        return
    paths.make_folder(request.folder, request.saved_as)
    under_way = paths.resume(request.folder).exists()
    with logs.shown(), logs.kept(request.log, mode="a" if under_way else "w"):
        log.info("command=%s", shlex.join(request.argv))
        if images != request.data:
            log.warning("data=%s reason=added the real images that a training needs", images)
        job = partial(_job, request, images=str(images), device=run_here.device(request.device))
        if request.poison is not None and not request.keep_poison:
            run_here.perform(POISON, partial(job, kind="poison", settings=choice))
        elif request.poison is None and record.exists():
            record.unlink()  # of an earlier training; its flips no longer apply
        result = run_here.perform(TRAIN, partial(job, kind="train", settings=settings))
        log.info("result=%s", result)
    _tell(result, paths.checkpoint(request.folder) if settings.save_weights else None, request.log)


def _refuse_other_epoch(request: ClassicRequest) -> None:
    """Refuse --resume_from an epoch that is not the one that was interrupted."""
    if not request.resume_from:
        return
    from trueface.training.checkpointing import interrupted_epochs  # as above

    path = paths.resume(request.folder)
    kept = interrupted_epochs(path)
    if kept != request.resume_from:
        there = "does not exist" if kept is None else f"is of epoch {kept}"
        raise UsageError(
            f"--resume_from {request.resume_from}: the saved state {path} {there}. Leave out the flag "
            "to resume from the saved state."
        )


def _test(request: ClassicRequest) -> None:
    settings = settings_of(TestSettings, request)
    network = settings_of(TrainSettings, request).model  # checks what a test does not need, too
    test = TEST.with_words(request.words)
    refuse_unfit(test, _draft(request, settings, model=request.model))
    from trueface.models import checkpoint  # as above

    if "model" in request.settings:
        checkpoint.restore(paths.checkpoint(request.folder), arch=network)

    with logs.shown(), logs.kept(request.log):
        log.info("command=%s", shlex.join(request.argv))
        job = partial(_job, request, device=run_here.device(request.device))
        result = run_here.perform(TEST, partial(job, kind="test", settings=settings))
        log.info("result=%s", result)
    name = tested(str(request.data), settings.condition(settings.model_dump(mode="json")))
    scores = paths.scores(request.folder, request.model, name)
    # an attack that cannot be done gives no scores
    is_scored = settings.save_scores and "reason" not in result
    _tell(result, scores if is_scored else None, request.log)


def _draft(request: ClassicRequest, settings: Settings, *, model: str) -> Draft:
    return Draft(
        kind=request.task,
        run=request.run,
        run_folder=request.folder.parent,
        folder=Path.cwd(),
        model=model,
        base=request.base,
        data=str(request.data),
        settings=settings.model_dump(mode="json"),
        words=request.words,
    )


def _job(request: ClassicRequest, *, kind: str, settings: Settings, **others: Any) -> ClassicJob:
    return ClassicJob(
        name=f"{kind}/{request.model}",
        kind=kind,
        run=request.run,
        run_folder=request.folder.parent,
        folder=Path.cwd(),
        attempt_folder=request.folder,
        attempt=1,
        model=request.model,
        folders={request.model: request.folder},
        base=request.base,
        data=str(request.data),
        settings=settings.model_dump(mode="json"),
        words=request.words,
        **others,
    )


def _tell(result: Mapping[str, Json], made: Path | None, log_file: Path | None) -> None:
    run_here.tell(result)
    for path in (made, log_file):
        if path is not None:
            click.echo(f"wrote {path.relative_to(Path.cwd())}", err=True)
