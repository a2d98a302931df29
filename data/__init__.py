"""Texts to learn from, and the generator that writes them (see README.md beside this file)."""
