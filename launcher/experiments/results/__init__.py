"""Results as data: the rows of a run, statistics over them, and a database of all results.

Start reading at `rows.results_of`.
"""
