"""Files of the original system, read without running anything that they hold.

Start reading at `original_runs.read_scores`.
"""
