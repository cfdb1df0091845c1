"""What an attempt makes: it stays in a folder of its own, a stage, until its outcome is accepted.

Start reading at `view`, then `acceptance.accept`.
"""
