"""The audit of an experiment: a thin reader of files, and pure checks of what it read.

Start reading at `registry`.
In reading order: registry, check, finding, group_facts, run_facts, reader, model_folders, model_groups,
base_models, damaged_files, legacy_runs, image_headers, poison_facts, checks_files, checks_groups,
checks_leakage, checks_poisoning, checks_predictions, checks_shortcuts, checks_testing, checks_training,
checks_unlearning, text.
"""
