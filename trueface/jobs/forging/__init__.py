"""Sets of real faces and fakes of them, as jobs.

Start reading at `forge.forge`.
"""
