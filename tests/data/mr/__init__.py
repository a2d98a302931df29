"""Marathi: a small language of its own, to try what a new language needs (see tests/data/test_new_language.py)."""
