"""Gumbel-softmax, relaxed and straight-through."""

from torch import Tensor

from zoo.relaxations.base import Relaxation, one_hot_like, sample_gumbel, straight_through


class GumbelSoftmax(Relaxation):
    """``softmax((logits + g) / tau)`` with Gumbel noise ``g``: a sample of the concrete distribution.

    Unbiased for the relaxed objective, biased for the discrete one; the bias falls and the variance
    rises as ``tau`` goes to zero. One program run. Works for tau in about [0.3, 1].

    Sources: Jang et al. 2017, arXiv 1611.01144, eq. 2; Maddison et al. 2017, arXiv 1611.00712, eq. 10.
    """

    hard = False

    def relax(self, logits: Tensor) -> Tensor:
        return ((logits + sample_gumbel(logits)) / self.tau).softmax(-1)


class STGumbelSoftmax(Relaxation):
    """One-hot ``argmax(logits + g)`` forward, Gumbel-softmax with the same noise backward.

    Biased; the program sees the discrete thing it will be evaluated on. One program run. Works for
    tau in about [0.3, 1].

    Source: Jang et al. 2017, arXiv 1611.01144, section 2.2.
    """

    def relax(self, logits: Tensor) -> Tensor:
        perturbed = logits + sample_gumbel(logits)
        soft = (perturbed / self.tau).softmax(-1)
        return straight_through(one_hot_like(perturbed.detach().argmax(-1), soft), soft)
