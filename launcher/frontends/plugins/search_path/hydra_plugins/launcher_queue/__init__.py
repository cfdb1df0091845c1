"""The plugin that Hydra finds: `hydra/launcher=launcher` runs sweeps in the queue.

Hydra imports this module in every app, so it imports `launcher` only when a sweep uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

CONFIG = "hydra/launcher/launcher"
GROUPS = {"": "hydra", "hydra": "launcher"}  # group → the group in it
PROVIDER = "launcher"


class LauncherOptions(ConfigSource):  # type: ignore[misc]  # base class of an extra
    """The options `hydra.launcher.*`: built from the table of job options when a sweep selects this launcher."""

    @staticmethod
    def scheme() -> str:
        """Return the beginning of the address of this source."""
        return "launcher"

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the options.

        Raises:
            ConfigLoadError: another config is asked for.
        """
        if not self.is_config(config_path):
            raise ConfigLoadError(f"Config not found: {config_path}")
        from launcher.frontends.plugins.hydra.options import default_options

        return ConfigResult(
            provider=self.provider,
            path=self.full_path(),
            config=default_options(f"{__name__}.{QueueLauncher.__name__}"),
            header={"package": None},
        )

    def available(self) -> bool:
        """Return True: the options need no file."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Return whether a path is a group on the way to the config."""
        return config_path.strip("/") in {*GROUPS, CONFIG.rpartition("/")[0]}

    def is_config(self, config_path: str) -> bool:
        """Return whether a path is that of the config."""
        return config_path.strip("/").removesuffix(".yaml") == CONFIG

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the names of groups and configs in a group."""
        group = config_path.strip("/")
        if group in GROUPS:
            return [] if results_filter == ObjectType.CONFIG else [GROUPS[group]]
        is_found = self.is_group(group) and results_filter != ObjectType.GROUP
        return [CONFIG.rpartition("/")[2]] if is_found else []


class LauncherSearchPath(SearchPathPlugin):  # type: ignore[misc]  # base class of an extra
    """Adds the options to those that a command line can select."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the source of the options."""
        search_path.append(PROVIDER, f"{LauncherOptions.scheme()}://")


class QueueLauncher(Launcher):  # type: ignore[misc]  # base class of an extra
    """Runs each job of a sweep as a job of the queue."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.config: DictConfig | None = None
        self.context: HydraContext | None = None
        self.task: TaskFunction | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take the app and its config."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Queue a job for each list of overrides, and wait for all of them.

        Raises:
            CompactHydraException: an option is wrong, the app cannot be pickled, or the queue cannot be used.
        """
        from launcher.frontends.plugins.hydra.launching import launch
        from launcher.frontends.plugins.hydra.task import App

        app = App(self.task, self.context, self.config)
        return launch(app, self.options, job_overrides, initial_job_idx)
