"""Readers of the original program's files, whose pickles are read without executing anything in them."""
