"""The kinds `classify` and `forget`: networks of any number of classes.

Start reading at `classification.classify`.
"""
