"""How models learn: data, start, steps, schedule, checkpoints, and what is recorded of it.

Start reading at `trainer.train`.
"""
