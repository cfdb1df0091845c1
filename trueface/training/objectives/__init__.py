"""Training objectives: one per file, chosen by name with the setting `objective`.

Start reading at `registry.register_objective`.
"""
