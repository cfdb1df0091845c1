"""Results as data: the rows of a run, what they are rows of, statistics over them, and one database of all.

Start reading at `rows.results_of`.
"""
