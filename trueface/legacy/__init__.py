"""Files of the original system, read without running anything that they hold.

Start reading at `original_runs.read_scores`.
In reading order: original_runs, safe_pickle, pickle_machine, numpy_pickles, torch_pickles.
"""
