"""The command lines of the original programs, and the files that they write."""
