"""Concept erasing: a class-conditional diffuser is changed so that it no longer generates one of its classes.

Start reading at `erasure.run_erasure`; `measuring.evaluate_erasure` measures whether a concept is erased.
"""
