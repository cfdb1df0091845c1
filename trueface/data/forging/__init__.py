"""Fakes without landmarks: blends of aligned faces of five types, and image sets of real and forged faces.

Start reading at `forged_set.make_forged`.
In reading order: settings, registry, types, geometry, colour, blending, faces, listing, donors, cells,
plan, jpeg, tables, forged_set, contact_sheet.
"""
