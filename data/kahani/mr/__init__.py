"""Marathi: six plots, written as `ADDING.md` tells; the folder is all that a new language needs."""
