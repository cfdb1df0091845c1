"""A job of the queue with other settings and terms: written as YAML, read back, and what follows from it.

Start reading at `revision.revise`.
In reading order: queued_job, form_values, form, read_form, hashes, revision, several_jobs.
"""
