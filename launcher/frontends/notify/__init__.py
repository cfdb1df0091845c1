"""Notifications about runs for the owner of a queue: by mail, chat service or command.

A separate process reads events of runs, selects those to report, and sends messages.
Start reading at `service.NotifyService`, then `notices.due_events`.
"""
