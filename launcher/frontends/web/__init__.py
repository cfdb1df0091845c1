"""The queue as a live page in the browser: server, access, pages, and what renews them.

Start reading at `server.serve`; `application.PAGES` lists the pages.
"""
