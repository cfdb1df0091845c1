"""The audit of an experiment: a thin reader of files, and pure findings over what it read."""
