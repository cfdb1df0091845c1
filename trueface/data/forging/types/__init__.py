"""The types of forgery, a file each: what takes the place of which part of a face.

Start reading at `swap`.
"""
