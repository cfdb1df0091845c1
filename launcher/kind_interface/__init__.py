"""What a laboratory tells the launcher of its kinds of jobs, and what it is told of a job.

Start reading at `kind.Kind`.
"""
