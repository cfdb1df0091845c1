"""Which code and which files made a result: digests of code and files, git, and copies of a project's code.

`code_identity` decides whether the code of a job has changed. `snapshots` keeps the code of queued jobs.
Start reading at `code_identity.digests`, then `file_digests`.
"""
