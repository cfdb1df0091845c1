"""Training of models: data, initial weights, steps, schedule, checkpoints, and records.

Start reading at `trainer.train`.
"""
