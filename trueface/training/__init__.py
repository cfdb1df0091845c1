"""How models learn: data, start, steps, schedule, checkpoints, and what is recorded of it.

Start reading at `trainer.train`.
In reading order: settings, class_settings, config, image_lists, initialization, objectives, trainer,
loop, fairness, cvar, schedules, perturbation, standardisation, validation, optimizer_state,
checkpointing, resume, history, event_log, lineage, provenance, feature_bank, class_source, distributed,
qualities, ridge.
"""
