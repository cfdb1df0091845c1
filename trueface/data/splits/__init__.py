"""Which images train, validate and test: made, read, matched with the disk, checked for leaks.

Start reading at `splits.load_split`.
"""
