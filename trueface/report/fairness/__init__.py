"""The page of fairness: gaps between groups with their noise floors, beside the AUC of each method.

Start reading at `page.write_fairness_page`.
"""
