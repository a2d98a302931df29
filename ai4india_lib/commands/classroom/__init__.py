"""A teacher's commands, `python -m ai4india_lib class …`: `collect`, `nbgrader`, `secret` and `verify` each do one.

`collect` reads the works (`submissions`), takes out the cells that an answer needs (`answers`), and gives them to a
process of their own (`marker` starts and watches it, `worker` runs in it, `fence` says what it may do). Then it looks
for copies (`alike`) and writes the marks (`table`). `options`: what can be asked.
"""
