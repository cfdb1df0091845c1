"""The queue under other tools: their plugins, and a backend or an executor for those that take one.

There is a folder per tool. Hydra and Snakemake search for packages by name. These packages are in `search_path`, and an
installation puts them next to `launcher`. They import the folder of their tool when they are used.
"""
