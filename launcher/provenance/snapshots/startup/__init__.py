"""Modules that each Python of a job with a snapshot imports at its start: this folder is in front of PYTHONPATH.

Only the standard library is imported here, and the interpreters of jobs may be as old as Python 3.8.
"""
