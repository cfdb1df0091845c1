"""Measurements of what a person waits for; never asserted in tests."""
