"""Softmax with a temperature: no sample at all."""

from torch import Tensor

from zoo.relaxations.base import Relaxation


class Softmax(Relaxation):
    """``softmax(logits / tau)``, deterministic in training mode.

    Not an estimator of the discrete expectation: the program sees a blend of all choices, so a
    network trained with it is a deterministic autoencoder or mixture. It is here because it is the
    question: when is it enough? One program run.

    Args:
        tau: temperature; as it goes to zero the blend goes to the arg max.
    """

    stochastic = False
    hard = False

    def relax(self, logits: Tensor) -> Tensor:
        return (logits / self.tau).softmax(-1)
