"""How attempts ended, and what follows for their jobs: whose fault a lack of memory was, what is queued again.

Start reading at `ended_attempts.Endings`.
"""
