"""The page of fairness: gaps between groups with their noise floors, beside the AUC of each method.

Start reading at `page.write_fairness_page`.
In reading order: page, content, records, summary, ladder, gap_plot, group_tables, group_bars.
"""
