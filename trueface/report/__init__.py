"""The report of a run: one HTML page that needs no other file and no network.

Start reading at `page`, then templates/page.html.
"""
