"""The pages of generators: what purifiers restore of disrupted images, and what diffusers forgot of a concept.

Start reading at `purification_page.write_purification_page`.
"""
