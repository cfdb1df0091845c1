"""The queue under other tools: their plugins, and a backend or an executor for those that take one.

A folder per tool. Hydra and Snakemake look for packages with names of their own, which lie in `search_path`: an
installation puts them beside `launcher`. They import these folders when they are used.
"""
