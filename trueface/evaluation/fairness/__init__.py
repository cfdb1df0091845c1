"""How evenly a detector errs over groups of people: rates, gaps, and what chance alone would give.

A gap means little alone: a constant detector has none, and noise makes one. So each stands beside
its floor under shuffled groups and beside the AUC, and is ranked among comparable models only.
Start reading at `run.fairness_rows`, then `groups.GroupTable`.
"""
