"""Published figures of detectors and of concept erasing, to stand beside results: of other data, and never compared.

Start reading at `tables.published_tables`.
"""
