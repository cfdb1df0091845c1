"""The metrics of a score table, each one object; a new file in here adds one.

Start reading at `confusion.ACCURACY`; metric.py, one folder up, says what each field means.
"""
