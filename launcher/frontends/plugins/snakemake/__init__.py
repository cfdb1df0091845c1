"""Snakemake workflows in the queue: `snakemake --executor launcher`. Start reading at `executor.Executor`."""
