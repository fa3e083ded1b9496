"""Evaluate models, compare them, and draw what was saved."""
