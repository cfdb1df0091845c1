"""The log of an opened job: a part of it on the screen, its growth, the search in it.

Start reading at `log_page.LogPage`.
"""
