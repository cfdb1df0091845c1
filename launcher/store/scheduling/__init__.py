"""What the scheduler does to the queue: it asks what could start, claims it, and takes in how it ended.

Start reading at `scheduler_actions.Scheduling`.
In reading order: scheduler_actions, ready_jobs, claims, unreadable_jobs, transitions, usage_records.
"""
