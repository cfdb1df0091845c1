"""Measures of an unlearning: forgotten, retained, membership, ruined models, beside references.

Start reading at `leaderboard`.
"""
