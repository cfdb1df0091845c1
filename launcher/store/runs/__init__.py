"""Runs that wait beside each other: their shares, what they used lately, and the first jobs of each.

Start reading at `accounts.RunAccount`.
"""
