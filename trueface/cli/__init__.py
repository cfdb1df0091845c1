"""The command `trueface`: every command here and now, without the queue.

Start reading at `main.run`.
"""
