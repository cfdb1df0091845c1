"""What Snakemake finds of the queue: `snakemake --executor launcher`."""

from launcher.plugins.snakemake.executor import Executor, ExecutorSettings, common_settings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
