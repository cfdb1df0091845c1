"""The plugin that Snakemake finds: `snakemake --executor launcher` runs workflows in the queue."""

from launcher.frontends.plugins.snakemake.executor import (
    Executor,
    ExecutorSettings,
    common_settings,
)

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
