"""What a schedule would have been: traces and task files, replayed with the scheduler's policy.

Start reading at `baselines.run_study`.
"""
