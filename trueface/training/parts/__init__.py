"""The parts of a training: one feature each, with its steps and its provenance.

Start reading at `protocol.Part`. `registry` contains the declarations for planning.
"""
