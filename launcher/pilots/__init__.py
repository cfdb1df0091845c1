"""A pilot: what an engine such as Slurm starts on a node, and the two files over which it talks with the scheduler.

A pilot has no database and decides nothing: it starts the attempts that it is sent, and reports how they end.
Start reading at `messages`: it holds all that scheduler and pilot say to each other.
"""
