"""The command lines of the original programs, with their flags and files.

Start reading at `train.main`.
In reading order: flag_parser, train_flags, train, unlearn_flags, unlearn, unlearn_results, comparison_text.
"""
