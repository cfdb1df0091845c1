"""Reading of task files: YAML text becomes entries, and every error has its location in the file.

Start reading at `parser.parse`.
"""
