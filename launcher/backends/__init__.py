"""Engines that start pilots: what each is asked, and how it is configured.

In reading order: protocol, settings, shape, registry, local, node_paths, slurm, slurm_commands,
slurm_states, sbatch.
Start reading at `protocol.Backend`: all that an engine has to do.
"""
