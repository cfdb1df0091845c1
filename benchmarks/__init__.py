"""Measurements of the times that users wait for. Tests never assert them."""
