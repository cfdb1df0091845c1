"""Outputs of an attempt. They stay in a folder of their own, the staging folder, until its outcome is accepted.

Start reading at `view`, then `acceptance.accept`.
"""
