"""A task file read: YAML text becomes entries, and every error has its place in the file.

Start reading at `parser.parse`.
"""
