"""Purifiers: functions that take disrupting perturbations out of images, and the grammar of their names.

Start reading at `registry.parse_purifier`.
"""
