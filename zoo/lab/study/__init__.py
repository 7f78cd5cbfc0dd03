"""The study: every regime under one protocol, a row a run, and the page that is written from the rows.

:mod:`.plan` is what is compared, :mod:`.protocol` which runs are still to be done, :mod:`.regime` what a regime is,
:mod:`.tensors` how those of small tensors train their seeds and settings side by side, :mod:`.statistics` what is
concluded, :mod:`.page` how it is told, :mod:`.rule` what to do.
"""
