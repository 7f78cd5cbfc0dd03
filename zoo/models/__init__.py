"""The models, a room each: one folder with its model, nets, data and whatever only it needs. Rooms never import rooms.

:mod:`zoo.hub.registry` knows them all. Layers that the networks of several rooms are built of are in
:mod:`zoo.models.layers`, experts and their router in :mod:`zoo.models.experts`, laws of codes in
:mod:`zoo.models.chain`, laws of pixels in :mod:`zoo.models.likelihoods`; what else rooms share is in
:mod:`zoo.training`, :mod:`zoo.data` and :mod:`zoo.relaxations`.
"""
