"""Concept erasing: methods that make a conditional diffusion model forget a concept, and their measures.

Start reading at `registry`.
"""
