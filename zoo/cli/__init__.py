"""The command line: each script of ``scripts/`` calls one ``main`` here."""
