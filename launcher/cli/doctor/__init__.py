"""`launcher doctor`: facts are gathered, checks judge them, findings say what to do.

Start reading at `checks.check`.
"""
