"""Pilots on other machines: how many there are, what becomes of them, what is said to them.

Start reading at `pilot_rules`: what is decided about pilots; then `fleet.Fleet`.
"""
