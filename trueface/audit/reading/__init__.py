"""What an audit reads of a run: files become facts, and what is damaged is said, not raised.

Start reading at `reader`.
"""
