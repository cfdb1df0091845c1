"""Jobs of a plan that do once what others repeat: found while it is made, put into it beside the queue.

Start reading at `shared_work.SharedWorks`.
"""
