"""How far jobs are: reports by workers and programs, and the curves that they make.

Start reading at `attempt_progress.read_attempt_progress`.
"""
