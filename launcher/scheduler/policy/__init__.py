"""What starts, where, and why the rest waits: pure functions of jobs, machine, colleagues and the time.

Start reading at `decide.decide`.
"""
