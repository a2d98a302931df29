"""Measuring speed: a door to the rooms, which none of them uses. `python -m ai4india_lib benchmark` opens it.

`contestants` are the ways of writing, ours and those of `transformers`; `generation` holds them against each other, row
by row of one table; `training` does so with steps of training; `profiling` tells where time goes; `table` prints what
was measured.
"""
