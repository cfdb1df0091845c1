"""Fakes without landmarks: blends of aligned faces of five types, and image sets of real and forged faces.

Start reading at `forged_set.make_forged`.
"""
