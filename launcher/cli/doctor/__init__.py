"""`launcher doctor`: facts are gathered, and a list of checks judges them.

Start reading at `checks.check`.
"""
