"""The report of a run: one HTML page that needs no other file and no network.

Start reading at `page`, then templates/page.html.
In reading order: page, content, tables, plots, svg, label_placement, histograms, scatter,
embedding_plot, unlearning_section, unlearning_content, unlearning_columns, unlearning_files, json_fields, benchmark_page,
benchmark_heat_maps, benchmark_tables, benchmark_plots, over_seeds, fairness,
qualities, generation, style.
"""
