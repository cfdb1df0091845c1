"""What trainings that are to be fair to groups have in common: settings, cells, margins.

Start reading at `settings.FairnessSettings`.
"""
