"""The verbs that change jobs which are queued or run, and how the queue goes on.

Start reading at `steer.cancel`.
"""
