"""A task file read: YAML text becomes entries, and every error has its place in the file.

Start reading at `parser.parse`.
In reading order: parser, yaml_reader, yaml_tree, includes, interpolation, legacy_names, header, defaults,
scope, settings, setting_problems, sections, variants, entry_reader, values, resources, matrix,
entries, overrides, vocabulary, schema.
"""
