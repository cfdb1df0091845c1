"""Copies of the code of projects, from which jobs run the code as it was when they were queued.

`reference` names a snapshot in the context of jobs. `source_files` lists the files to copy. `copies` makes and deletes copies.
`programs` refuses programs that cannot follow a snapshot. `startup` is imported by each Python process of a job, and reads the
copy. `attempts` sets its variables and reads its notes.
"""
