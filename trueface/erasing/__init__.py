"""Concept erasing: a class-conditional diffuser is changed so that it no longer draws one of its classes.

Start reading at `erasure.run_erasure`.
In reading order: options, registry, settings, problem, paths, optimisation, sega, erasure, methods, measures.
"""
