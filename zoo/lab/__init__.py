"""Experiments that compare relaxations; ``scripts/<name>.py`` is the door to each."""
