"""The command lines of the original programs, with their flags and files.

Start reading at `train.main`.
"""
