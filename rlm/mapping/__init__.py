"""Questions that are put to every row: packed into prompts, asked in waves, checked, and asked again where need be.

It knows nothing of runs, traces, sandboxes and stores: how packs are asked and where answers are kept is given to it.
"""
