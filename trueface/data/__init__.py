"""Images: which ones an ID means, their groups and headers. `loading`, `splits` and `made` have folders of their own.

Start reading at `index.survey`.
"""
