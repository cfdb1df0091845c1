"""Simulated schedules: traces and task files, replayed with the scheduler's policy.

Start reading at `baselines.run_study`.
"""
