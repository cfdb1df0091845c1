"""The audit of an experiment: a thin reader of files, and pure checks of what it read.

Start reading at `registry`.
In reading order: registry, check, finding, group_facts, run_facts, reading, checks_files,
checks_groups, checks_leakage, checks_poisoning, checks_predictions, checks_shortcuts, checks_testing,
checks_training, checks_unlearning, text.
"""
