"""How well the queue fills simulated cards, compared with the best fixed number of jobs at a time.

Start reading at `workloads.WORKLOADS`.
"""
