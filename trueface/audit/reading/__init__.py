"""What an audit reads of a run: files become facts, and what is damaged is said, not raised.

Start reading at `reader`.
In reading order: reader, model_folders, model_groups, base_models, damaged_files, legacy_runs,
poison_facts, image_headers.
"""
