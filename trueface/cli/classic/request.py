"""The request of a command line of the original train.py, read from its flags."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from launcher.api import (
    DataId,
    ModelId,
    Poison,
    Settings,
    Stage,
    UnknownName,
    UsageError,
    Words,
    model_folder_name,
    parse_data,
    parse_model,
    parse_poison,
)
from trueface.cli.classic.flags import Parser, help_text, percent_of
from trueface.data.settings import TestSettings
from trueface.jobs.flags import (
    CLASSIC_DEFAULTS,
    WORD_HELP,
    WORD_SHAPE,
    default,
    read_word_flags,
    validate_flags,
)
from trueface.jobs.kinds import TEST
from trueface.poisoning.poison_record import FLIP, KINDS, PoisonSettings
from trueface.runtime import paths
from trueface.training.settings import TrainSettings

Known = TypeVar("Known", bound=Settings)
TASKS = ("train", "test")
VOCABULARY: Mapping[str, FieldInfo] = {
    **PoisonSettings.model_fields,
    **TestSettings.model_fields,
    **TrainSettings.model_fields,
}
# flags that are not settings, with their meaning
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
    model: str  # its ID; for a test, the name it was saved under
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
        """Folder of the model."""
        return Path.cwd() / "runs" / self.run / model_folder_name(self.saved_as)

    @property
    def log(self) -> Path:
        """Where this command line logs."""
        model = self.base if self.task == "train" else self.saved_as
        return paths.log(self.folder, self.task, model, str(self.data))


class _Models(NamedTuple):
    """The model that a command line trains or tests, and its sources."""

    model: str
    saved_as: str
    base: str | None
    poison: Poison | None


def parse_command_line(argv: Sequence[str]) -> ClassicRequest:
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
    return validate_flags(model, given)


def _task(name: str | None) -> str:
    if not name:
        raise UsageError("--task is required: train or test")
    if name not in TASKS:
        raise UnknownName("task", name, TASKS)
    return name


def _epoch(text: str | None) -> int:
    """Return the epoch of --resume_from, or 0 for none (also for -1)."""
    try:
        return max(int(text or 0), 0)
    except ValueError as error:
        raise UsageError(f"--resume_from {text!r} is not an epoch number") from error


def _poison(rate: str, kind: str | None) -> Poison | None:
    percent = percent_of(rate)
    if percent is None:
        raise UsageError(f"--poison_rate {rate} is not between 0 and 1")
    if kind is not None and kind not in KINDS:
        raise UnknownName("--poison_kind", kind, KINDS)
    prefix = "" if kind in {None, FLIP} else f"{kind}-"
    return parse_poison(f"{prefix}{percent:f}")


def _models(task: str, flags: Mapping[str, str | None], data: DataId) -> _Models:
    """Return which model is made or tested, and from what."""
    base = flags["load_id"]
    if base is not None:
        paths.model_folder("--load_id", base)
    if task == "train":
        poison = _poison(flags["poison_rate"] or "0", flags["poison_kind"])
        model, saved_as = _names(base, flags["save_id"], Stage(data, poison))
        return _Models(model=model, saved_as=saved_as, base=base, poison=poison)
    if base is None:
        raise UsageError("--load_id is required: the model to test")
    return _Models(model=base, saved_as=base, base=None, poison=None)


def _names(base: str | None, save_id: str | None, stage: Stage) -> tuple[str, str]:
    """Return a training's model ID, and the name it is saved under."""
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
    return parser.parse_flags(argv, (*OWN, *WORD_HELP, "keep_poison", "preview", *VOCABULARY))


def _help(key: str, field: FieldInfo) -> str:
    value = default(key, field)
    return help_text(f"{field.description}", None if value is PydanticUndefined else value)
