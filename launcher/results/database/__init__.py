"""Runs as one SQLite file: written in place, for any program that reads such files; and questions to it.

Start reading at `write.write_run`.
In reading order: schema, file, upsert, job_rows, score_rows, failed_logs, views, write, read_only, ask, everything.
"""
