"""The options of a job: under `resources` in a task file, and on the command line of `launcher add`.

An option is one row: a `JobOption` that a module of this package registers. Task files, `launcher add`,
the JSON schema and the reference read the same rows.
Start reading at `registry.JobOption`.
"""
