"""Hydra sweeps in the queue: `hydra/launcher=launcher`. Start reading at `launching.launch`."""
