"""Searches that choose the values of their next jobs themselves.

Read `definition.py` first, then `process.py`. Only `study.py` imports Optuna.
"""
