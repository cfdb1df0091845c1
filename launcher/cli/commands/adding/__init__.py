"""`launcher add`: programs into the queue, one from the command line or many from a file.

Start reading at `add.command`.
"""
