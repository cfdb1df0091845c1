"""Engines that start pilots: what each is asked, and how it is configured.

In reading order: protocol, settings, shape, registry, pilot_processes, local, node_paths, slurm,
slurm_commands, slurm_states, sbatch, ray, ray_states, asked_process, ray_desk, ray_guard, by_hand.
Start reading at `protocol.Backend`: all that an engine has to do.
"""
