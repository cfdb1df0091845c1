"""Image files of which only the upper rows are needed.

Start reading at `jpeg`.
"""
