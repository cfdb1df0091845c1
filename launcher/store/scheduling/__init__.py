"""What the scheduler does to the queue: it asks what could start, claims it, and takes in how it ended.

Start reading at `scheduler_actions.Scheduling`.
"""
