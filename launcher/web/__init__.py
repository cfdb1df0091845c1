"""The queue as a live page in the browser: server, access, pages, and what renews them.

Start reading at `server.serve`.
In reading order: server, connections, access, guard, application, site, rendering, queue_reader,
streams, questions, steering, log_file, run_file, pages, runs, charts.
"""
