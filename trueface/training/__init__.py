"""How models learn: data, start, steps, schedule, checkpoints, and what is recorded of it.

Start reading at `trainer.train`.
In reading order: settings, job_data, initialization, trainer, loop, schedules, optimizer_state,
checkpointing, resume, history, lineage, provenance, feature_bank, class_settings,
classifier_trainer.
"""
