"""Commands about generators: one job by hand, and the tables and pages of purification and erasing.

Start reading at `generate.generate`.
"""
