"""What a training minimizes: one objective a file, chosen by name with the setting `objective`.

Start reading at `registry.register_objective`.
"""
