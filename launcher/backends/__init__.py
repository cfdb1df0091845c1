"""Engines that start pilots: what each is asked, and how it is configured.

Start reading at `protocol.Backend`: all that an engine has to do.
"""
