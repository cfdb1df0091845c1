"""Facts about the operating system, and small files: nothing here knows of jobs.

Start reading at `paths.Home`, then `files.write_atomic`.
"""
