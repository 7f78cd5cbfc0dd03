"""Experiments that compare estimators of gradients. Each is a module with a function ``experiment``.

``zoo lab NAME`` and ``scripts/NAME.py`` call it with the options that its signature describes; so can Python.
"""
