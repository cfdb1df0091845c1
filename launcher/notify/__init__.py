"""Telling the owner of a queue what happens to its runs: mail, chat services, or any command.

A process of its own reads what happened, decides what is worth a message, and sends it.
Start reading at `__main__.NotifyService`, then `notices.due`.
"""
