"""The log of an opened job: a part of it on the screen, its growth, the search in it.

Start reading at `log_page.LogPage`.
In reading order: log_page, log_tail, log_search.
"""
