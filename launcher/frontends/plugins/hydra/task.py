"""A job of a sweep in its own process: compose its config, and call the task function."""

import os
from collections.abc import Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from launcher.experiments.functions.calls import plain_result


class TaskResult(dict[str, Any]):
    """The numbers that a task returned, for the results of the queue, with its whole return for the sweeper."""

    job_return: JobReturn


class App:
    """An app of Hydra. Its jobs call it."""

    def __init__(self, task: TaskFunction, context: HydraContext, config: DictConfig) -> None:
        self.task, self.context, self.config = task, context, config
        self.singletons = Singleton.get_state()  # Hydra's own state, such as its config store
        self.__name__ = str(config.hydra.job.name)  # in messages about a function

    def __call__(self, overrides: Sequence[str], index: int) -> TaskResult:
        """Call the task function with a config of its own.

        Args:
            overrides: Overrides of this job.
            index: Number of this job in the sweep.

        Raises:
            Exception: what the task function raised.
        """
        Singleton.set_state(self.singletons)
        setup_globals()
        config = self.context.config_loader.load_sweep_config(self.config, [*overrides])
        with open_dict(config):
            config.hydra.job.id = os.environ.get("LAUNCHER_JOB", index)
            config.hydra.job.num = index
        returned = run_job(
            hydra_context=self.context,
            task_function=self.task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        result = TaskResult(plain_result(returned.return_value))  # raises what the task raised
        result.job_return = returned
        return result
