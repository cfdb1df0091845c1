"""Copies of the code of projects, from which jobs run the code as it was when they were queued.

`reference` names a snapshot in the context of jobs. `source_files` lists the files to copy. `copies` makes and deletes copies.
`programs` refuses programs that would run other code. `attempts` has the hooks at the start and end of an attempt.
"""
