"""What owners change of jobs that are in the queue: settings and terms, tags and notes, pauses.

Start reading at `steering.Steering`.
"""
