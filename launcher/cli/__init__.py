"""The command line: `main` finds the verb in `commands` and turns errors into exit codes.

Start reading at `main.main`.
"""
