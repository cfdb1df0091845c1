"""The options of a job: what a task file takes under `resources`, and `launcher add` on its command line.

An option is one row: a `JobOption` that a module of this room registers. Task files, `launcher add`,
the JSON schema and the reference read the same rows.
Start reading at `registry.JobOption`.
"""
