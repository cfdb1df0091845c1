"""The pages of generators: what purifiers restore of disrupted images, and what diffusers forgot of a concept.

Start reading at `purification_page.write_purification_page`.
In reading order: purification_page, purification_tables, purifier_verdicts, price_plot, detectors, erasing_page,
erasing_tables, erasing_verdicts, erasing_plots, rows, made_folders, pictures.
"""
