"""The command line of the original unlearn_trueface.py: `trueface unlearn-classic …`.

All its flags exist under their old names; the method is pgu. Faults of the original are not reproduced.
The forget set is that of the poisoned model's own training, by name. The loss moves away from the trained
label, not from the correct one. No poisoned label selects the result. A result that gives all images the
same class is reported.

It writes its model and two tables. `results.csv` has one row per step with loss and accuracies.
`results.json` has accuracies before and after, and whether the model is constant.
"""

import logging
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from launcher.api import (
    DataId,
    Draft,
    ModelId,
    Poison,
    Stage,
    UsageError,
    parse_data,
    parse_poison,
    write_json,
)
from trueface.cli import run_here
from trueface.cli.classic.flags import Parser, help_text, percent_of
from trueface.cli.classic.results import SCHEMA, rival, write_results
from trueface.cli.classic.train import ClassicJob
from trueface.cli.main import exit_code
from trueface.jobs.flags import validate_flags
from trueface.jobs.job_kind import refuse_unfit
from trueface.jobs.kinds import UNLEARN
from trueface.poisoning import poison_record
from trueface.poisoning.poison_record import FLIP, LIST, is_random
from trueface.runtime import logs, paths
from trueface.unlearning.registry import METHODS, TaskProperties, explain_unusable
from trueface.unlearning.settings import KEYS, UnlearningSettings, UnlearnSettings

if TYPE_CHECKING:  # torch takes seconds to import
    pass

METHOD = "pgu"
# The original's flags that have another name here, with its defaults.
RENAMED: Mapping[str, tuple[str, str]] = {
    "num_epochs": ("unlearn_epochs", "50"),
    "start_lr": ("unlearn_lr", "0.01"),
    "end_lr": ("unlearn_lr_end", "0.001"),
    "retained_var": ("pgu_retained", "0.95"),
    "offset": ("pgu_offset", "0.1"),
    "loss1_w": ("pgu_loss1", "1"),
    "loss2_w": ("pgu_loss2", "1"),
    "wd": ("unlearn_weight_decay", "0"),
    "early_stop_thres": ("pgu_most_loss", "5"),
}
# flags that are not settings, with their meaning
OWN: Mapping[str, str] = {
    "name": "results go to OUTPUT_DIR/NAME/ (required)",
    "poisoned_model": "checkpoints/best.pt of the poisoned model; its poison.json is two folders "
    "up (required)",
    "poison_rate": "fraction of its training labels that was flipped, 0 to 1 (required)",
    "baseline_model": "checkpoint of a clean model to test for comparison",
    "data": "data ID of its training (default: gan2:pre&gan3:pre&sdXL:pre&real:pre)",
    "output_dir": "folder of all results (default: runs/unlearning)",
    "device": "cpu or cuda:N (default: cuda:0, or cpu where there is no CUDA)",
}
DATA = "gan2:pre&gan3:pre&sdXL:pre&real:pre"
DEFAULTS: Mapping[str, Any] = {
    "batch_size": "64",
    "num_threads": "4",
    "resize_prob": "0.2",
    "resize_scale": ("0.2", "1.0"),
    "resize_ratio": ("0.75", "1.33"),
    "resize_size": "512",
    "jpeg_prob": "0.2",
    "jpeg_qual": ("30", "100"),
    "blur_prob": "0.2",
    "blur_sigma": ("1e-6", "3"),
    "patch_size": "96",
    "afterwards": "false",  # the original measures nothing of the kind
}
# settings that a training needs and this method does not, and settings that are decided here
UNUSED = frozenset(
    [
        "weights",
        "num_epochs",
        "lr",
        "lr_decay_epochs",
        "optimizer",
        "weight_decay",
        "schedule",
        "early_stop",
        "select",
        "ema",
        "save_weights",
        "method",
        "force",
        "unlearn_batch_size",
    ]
)
VOCABULARY: Mapping[str, FieldInfo] = {
    key: field
    for key, field in UnlearnSettings.model_fields.items()
    if (key in UnlearningSettings.model_fields or key in KEYS[METHOD])
    and key not in {*UNUSED, *(ours for ours, _ in RENAMED.values())}
}


class ClassicUnlearning(NamedTuple):
    """A command line, understood."""

    argv: tuple[str, ...]
    flags: Mapping[str, Any]  # all of them, as typed or by default
    poisoned: Path  # folder of the poisoned model
    model_folder: Path  # folder of the result
    baseline: Path | None  # a checkpoint
    data: DataId
    poison: Poison
    device: str
    settings: UnlearningSettings

    @property
    def base(self) -> str:
        """The ID of the poisoned model's data and settings, independent of its folder name."""
        return str(ModelId((Stage(self.data, self.poison),)))

    @property
    def model(self) -> str:
        """The ID of the result."""
        return str(ModelId((Stage(self.data, self.poison, (METHOD,)),)))

    @property
    def folders(self) -> Mapping[str, Path]:
        """Folders of both models, by ID."""
        return {self.base: self.poisoned, self.model: self.model_folder}


def parse_command_line(argv: Sequence[str]) -> ClassicUnlearning:
    """Understand a command line.

    Raises:
        UsageError: a flag, name or value is invalid, or the checkpoint has another format.
        RecordError: the poisoned model has no poison record.
    """
    flags = _parse(argv)
    for needed in ("name", "poisoned_model", "poison_rate"):
        if flags[needed] is None:
            raise UsageError(f"--{needed} is required: {OWN[needed].removesuffix(' (required)')}")
    name = paths.folder_name("--name", flags["name"])
    poisoned = _model_folder(flags["poisoned_model"])
    model_folder = Path.cwd() / flags["output_dir"] / name
    if model_folder.resolve() == poisoned.resolve():
        raise UsageError(
            f"{model_folder} is the folder of the poisoned model. Give another --name."
        )
    if flags["baseline_model"] == "None":  # the original's own default, as it is printed
        flags["baseline_model"] = None
    if flags["baseline_model"] is not None and not Path(flags["baseline_model"]).is_file():
        raise UsageError(f"--baseline_model {flags['baseline_model']}: no such file")
    return ClassicUnlearning(
        argv=tuple(argv),
        flags=flags,
        poisoned=poisoned,
        model_folder=model_folder,
        baseline=None if flags["baseline_model"] is None else Path(flags["baseline_model"]),
        data=parse_data(flags["data"]),
        poison=_poison(flags["poison_rate"], poisoned),
        device=flags["device"],
        settings=_settings(flags),
    )


def _model_folder(checkpoint: str) -> Path:
    """Return the folder of a model from the path of its weights."""
    path = Path.cwd() / checkpoint
    folder = path.parent.parent
    if path != paths.checkpoint(folder):
        raise UsageError(
            f"--poisoned_model {checkpoint}: expected MODEL/checkpoints/best.pt, as written by "
            "python -m trueface --task train --save_weights"
        )
    if not path.is_file():
        raise UsageError(f"--poisoned_model {checkpoint}: no such file")
    return folder


def _poison(rate: str, folder: Path) -> Poison:
    """Return how a model was poisoned; its record says which labels, and must be of that rate."""
    record = poison_record.read_record(paths.poison_record(folder))
    percent = percent_of(rate)
    prefix = "" if record.kind in {FLIP, LIST} else f"{record.kind}-"
    poison = None if percent is None else parse_poison(f"{prefix}{percent:f}")
    if poison is None or poison.rate != record.rate:
        raise UsageError(
            f"--poison_rate {rate}: by {paths.poison_record(folder)}, {record.rate:.6g} of the labels "
            "were flipped"
        )
    return poison


def _settings(flags: Mapping[str, Any]) -> UnlearningSettings:
    given = {key: flags[key] for key in VOCABULARY if flags[key] is not None}
    given |= {ours: flags[theirs] for theirs, (ours, _) in RENAMED.items()}
    given |= {"method": METHOD, "force": True, "unlearn_batch_size": given["batch_size"]}
    if given["num_threads"].startswith("-"):
        given["num_threads"] = len(os.sched_getaffinity(0))  # the original: all cores
    try:
        given["pgu_most_loss"] = float(flags["early_stop_thres"]) / 100  # given in points
    except ValueError as error:
        raise UsageError(
            f"--early_stop_thres {flags['early_stop_thres']!r} is not a number"
        ) from error
    try:
        return validate_flags(UnlearnSettings, given)
    except UsageError as error:
        raise UsageError(_with_flags(str(error))) from error


def _with_flags(text: str) -> str:
    """Return a text with the flags of the method's settings in place of their names."""
    flags = {key: key for key in KEYS[METHOD] & VOCABULARY.keys()}
    flags |= {ours: theirs for theirs, (ours, _) in RENAMED.items()}
    # not inside of a path or another name
    pattern = rf"(?<![\w/.-])(?:--)?({'|'.join(flags)})\b"
    return re.sub(pattern, lambda match: f"--{flags[match[1]]}", text)


def _parse(argv: Sequence[str]) -> dict[str, Any]:
    parser = Parser(
        prog="trueface unlearn-classic",
        description="Unlearn the flipped labels of a poisoned detector, as the original "
        "unlearn_trueface.py. For other methods, use trueface unlearn.",
        allow_abbrev=False,
    )
    for name, text in OWN.items():
        parser.add_argument(f"--{name}", help=text)
    parser.set_defaults(data=DATA, output_dir="runs/unlearning", device="cuda:0")
    parser.add_argument(
        "--save_model",
        action="store_true",
        help="accepted without effect; the result is always saved",
    )
    fields = UnlearnSettings.model_fields
    for theirs, (ours, value) in RENAMED.items():
        text = f"{_flag_text(ours, fields[ours]).description}".removesuffix(", 0 to 1")
        points = ", in points" if theirs == "early_stop_thres" else ""
        parser.add_argument(f"--{theirs}", default=value, help=f"{text}{points} (default: {value})")
    for key, field in VOCABULARY.items():
        own, usual = _flag_text(key, field), DEFAULTS.get(key)
        shown = own.get_default() if usual is None else usual
        text = help_text(f"{own.description}", None if shown is PydanticUndefined else shown)
        # one that is not given and has no default of the original is None
        parser.add_setting(key, field, text, default=usual)
    return parser.parse_flags(argv)


def _flag_text(key: str, field: FieldInfo) -> FieldInfo:
    """Return the field with a setting's help: the method's own field where it has one."""
    own = METHODS[METHOD].hyperparameters.model_fields
    return own.get(key.removeprefix("unlearn_").removeprefix(f"{METHOD}_"), field)


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicDraft(Draft):
    """An unlearning as it is planned, between two folders of the user's choice."""

    folders: Mapping[str, Path]  # by model ID

    def model_folder(self, model: str) -> Path:
        """Return the folder of a model."""
        return self.folders[model]


def main(argv: Sequence[str]) -> int:
    """Do what the command line says and return the exit code."""
    return exit_code(partial(run, argv))


def run(argv: Sequence[str]) -> None:
    """Do what the command line says.

    Raises:
        UsageError: a flag or a file that cannot be.
        JobError: stopped, or no finite result.
    """
    request = parse_command_line(argv)
    try:
        refuse_unfit(UNLEARN, _draft(request))
    except UsageError as error:
        raise UsageError(_with_flags(str(error))) from error
    paths.make_folder(request.model_folder, request.model_folder.name)
    with logs.log_to_stderr(), logs.log_to_file(request.model_folder / "unlearn.log"):
        log.info("command=%s", shlex.join(request.argv))
        if reason := weakness(request):
            log.warning("method=%s state=forced reason=%s", METHOD, reason)
        run_here.warn_without_effect(
            UNLEARN, request.settings.model_dump(mode="json"), typed_flags(request.argv)
        )
        write_json(request.model_folder / "config.json", {"schema": SCHEMA, **request.flags})
        job = partial(_job, request, device=run_here.device(request.device))
        compared = None if request.baseline is None else rival(job(), request.baseline)
        result = run_here.perform(UNLEARN, job, are_flags_named=True)
        results = write_results(request.model_folder, result, compared)
    run_here.print_result(results)
    click.echo(f"wrote {paths.checkpoint(request.model_folder)}", err=True)


def weakness(request: ClassicUnlearning) -> str | None:
    """Return why the method is known to do little here; None where it may work."""
    kind = request.poison.kind
    rate = float(request.poison.rate)
    return explain_unusable(METHOD, TaskProperties(goal="flips", rate=rate, random=is_random(kind)))


def typed_flags(argv: Sequence[str]) -> dict[str, str]:
    """Return the flags of a command line by the settings that they set."""
    words = {word.partition("=")[0] for word in argv}
    names = {
        **{key: key for key in VOCABULARY},
        **{ours: flag for flag, (ours, _) in RENAMED.items()},
    }
    return {ours: f"--{flag}" for ours, flag in names.items() if f"--{flag}" in words}


def _draft(request: ClassicUnlearning) -> ClassicDraft:
    return ClassicDraft(kind=UNLEARN.name, **_facts(request))


def _job(request: ClassicUnlearning, **others: Any) -> ClassicJob:
    return ClassicJob(
        name=f"{UNLEARN.name}/{request.model_folder.name}",
        kind=UNLEARN.name,
        attempt_folder=request.model_folder,
        attempt=1,
        **{"cpus": 1, **others},
        **_facts(request),
    )


def _facts(request: ClassicUnlearning) -> dict[str, Any]:
    return {
        "run": request.model_folder.parent.name,
        "run_folder": request.model_folder.parent,
        "folder": Path.cwd(),
        "model": request.model,
        "base": request.base,
        "data": str(request.data),
        "images": str(UNLEARN.images(request.data)),
        "settings": request.settings.model_dump(mode="json"),
        "folders": request.folders,
    }


@click.command(
    "unlearn-classic",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,  # --help lists the flags of the original
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def unlearn_classic(flags: tuple[str, ...]) -> None:
    """Unlearn with the flags of the original unlearn_trueface.py."""
    try:
        run(flags)
    except SystemExit as end:  # argparse has printed its help
        raise click.exceptions.Exit(0 if end.code is None else int(end.code)) from None
