"""Parts that several networks of `architectures` share.

Start reading at `truncation`.
"""
