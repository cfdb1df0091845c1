"""Measures of an unlearning: forgotten, retained, membership, ruined models, compared with references.

Start reading at `leaderboard`.
"""
