"""What starts, where, and why the rest waits: pure functions of jobs, machine, peers and the time.

Start reading at `decide.decide`.
"""
