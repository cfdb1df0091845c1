"""The options of Hydra's launcher, `hydra.launcher.*`: those of a job, and a few of a sweep."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from launcher.queue.job_options.registry import job_options
from launcher.system.errors import UnknownName, UsageError

CONTINUE, CANCEL = "continue", "cancel"  # effects of Ctrl-C on the jobs
DEFAULTS: Mapping[str, Any] = {
    "run": None,  # name of the run; None: the run of all functions
    "name": None,  # name of the jobs; None: hydra.job.name
    "max_workers": None,  # jobs of the sweep that run at once; None: as many as there is room for
    "on_interrupt": CONTINUE,
}


def default_options(target: str) -> DictConfig:
    """Return the config of the launcher with every option; None for one that is not given.

    It takes other names, too: `read_options` refuses them with a suggestion.

    Args:
        target: Class of the launcher.
    """
    options = {"_target_": target, **DEFAULTS, **dict.fromkeys(job_options())}
    return OmegaConf.create(options, flags={"struct": False})


class SweepOptions(NamedTuple):
    """The options of a sweep, and those of its jobs."""

    jobs: Mapping[str, Any]
    name: str | None
    max_workers: int | None
    on_interrupt: str


def read_options(options: Mapping[str, Any]) -> SweepOptions:
    """Return the options of a sweep.

    Raises:
        UsageError: an option is unknown, or has a wrong value.
    """
    for option in options:
        if option not in DEFAULTS and option not in job_options():
            raise UnknownName("option", f"hydra.launcher.{option}", _spell_options())
    given = {name: _to_container(value) for name, value in options.items() if value is not None}
    on_interrupt, workers = given.pop("on_interrupt", CONTINUE), given.pop("max_workers", None)
    if on_interrupt not in (CONTINUE, CANCEL):
        raise UsageError(
            f"hydra.launcher.on_interrupt: expected {CONTINUE} or {CANCEL}, got {on_interrupt!r}"
        )
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise UsageError(
            f"hydra.launcher.max_workers: expected a whole number of at least 1, got {workers!r}"
        )
    name = given.pop("name", None)
    return SweepOptions(given, None if name is None else str(name), workers, on_interrupt)


def _spell_options() -> list[str]:
    return [f"hydra.launcher.{name}" for name in (*DEFAULTS, *job_options())]


def _to_container(value: object) -> object:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
