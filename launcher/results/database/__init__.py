"""Runs as one SQLite file: written in place, for any program that reads such files; and questions to it.

Start reading at `write.write_run`.
"""
