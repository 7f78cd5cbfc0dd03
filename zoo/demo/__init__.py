"""The playground: ``zoo demo``, a page in the browser with a tab for each thing that one can see and touch.

A tab is a module here: plain functions from numbers to numbers and pictures, and a ``build`` that puts controls before
them. Only ``build`` and :mod:`zoo.demo.app` need Gradio, the extra ``demo``.
"""
