"""Concept erasing: a class-conditional diffuser is changed so that it no longer draws one of its classes.

Start reading at `erasure.run_erasure`; `measuring.evaluate_erasure` says whether a concept is gone.
"""
