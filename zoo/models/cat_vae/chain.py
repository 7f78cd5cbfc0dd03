"""Laws of a whole code: its positions one after the other, each a categorical given those before it."""

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.relaxations import Categorical
from zoo.relaxations.base import Draw
from zoo.relaxations.noise import DEFAULT, Noise


class ChainNet(nn.Module):
    """A network that tells each position of a code about those before it.

    ``forward(code, context)`` takes codes ``(..., latents, categories)``, one-hot or soft, and gives what is added to
    the logits of each position, of the same shape: what it adds at a position depends on the positions of earlier
    groups alone. ``forward(before, context, (start, stop))`` gives those of one group, of the positions before it.

    Args:
        latents, categories: the size of the code.
        groups: of neighbouring positions that do not see each other and are drawn at once, each as large as the others
            to one position; null for one position a group.
        context: width of what else it is told, ``(..., context)``; 0 for nothing.

    Raises:
        ValueError: if there are fewer than 1 or more than ``latents`` groups, or a number is out of range.
    """

    def __init__(self, *, latents: int, categories: int, groups: int | None = None, context: int = 0) -> None:
        super().__init__()
        groups = latents if groups is None else groups
        if latents < 1 or categories < 2 or context < 0 or not 1 <= groups <= latents:
            raise ValueError(
                "need latents >= 1, categories >= 2, context >= 0 and groups in [1, latents], got "
                f"{latents}, {categories}, {context}, {groups}"
            )
        self.latents, self.categories, self.context = latents, categories, context
        self.bounds = [round(group * latents / groups) for group in range(groups + 1)]

    def group_of(self) -> list[int]:
        """The group of each position."""
        return [sum(stop <= position for stop in self.bounds[1:]) for position in range(self.latents)]


class Chain:
    """The law of a code by the chain rule: position i is categorical with logits that see the groups before its own.

    Without a network the positions are independent. A value, nearly free to make; codes are one-hot or soft,
    ``(..., latents, categories)``.

    Args:
        logits: of each position before it sees others, ``(..., latents, categories)``.
        net: what the positions before add to them.
        context: what the network is told beside the code, ``(..., context)``.
        tau: temperature; the logits of each position given those before are divided by it.
    """

    def __init__(
        self, logits: Tensor, net: ChainNet | None = None, context: Tensor | None = None, *, tau: float = 1.0
    ) -> None:
        self.logits, self.net, self.context, self.tau = logits, net, context, tau

    @property
    def bounds(self) -> list[int]:
        """Where the groups begin, and where the last one ends."""
        return [0, self.logits.shape[-2]] if self.net is None else self.net.bounds

    def repeat(self, samples: int) -> "Chain":
        """This law of ``(batch, ...)`` as that of ``(batch, samples, ...)``."""
        context = None if self.context is None else self.context.unsqueeze(1)  # which the network broadcasts
        return Chain(self.logits.unsqueeze(1).expand(-1, samples, -1, -1), self.net, context, tau=self.tau)

    def conditionals(self, code: Tensor) -> Tensor:
        """Logits of each position given those before it in ``code``; not normalised."""
        logits = self.logits if self.net is None else self.logits + self.net(code, self.context).to(self.logits)
        return logits if self.tau == 1 else logits / self.tau

    def log_prob(self, code: Tensor) -> Tensor:
        """Log-probability of codes in nats, ``(...)``; of a soft code linear in each position given those before."""
        return Categorical(self.conditionals(code)).log_prob(code).sum(-1)

    def draw(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """A code, group after group, each by ``draw(logits)``, and the logits it was drawn with.

        Returns:
            Code and logits, both of the shape of :attr:`logits`.
        """
        if self.net is None:
            logits = self.conditionals(self.logits)
            return draw(logits), logits
        drawn: list[Tensor] = []
        used: list[Tensor] = []
        for part in zip(self.bounds, self.bounds[1:]):
            before = torch.cat(drawn, -2) if drawn else self.logits[..., :0, :]
            logits = self.logits[..., part[0] : part[1], :] + self.net(before, self.context, part).to(self.logits)
            used.append(logits if self.tau == 1 else logits / self.tau)
            drawn.append(draw(used[-1]))
        return torch.cat(drawn, -2), torch.cat(used, -2)

    @torch.no_grad()
    def sample(self, n: int | None = None, *, noise: Noise = DEFAULT) -> Tensor:
        """One-hot codes drawn exactly: of a law ``(latents, categories)`` ``n`` of them, else one for each of its."""
        law = self if n is None else Chain(self.logits.expand(n, -1, -1), self.net, self.context, tau=self.tau)
        return law.draw(lambda logits: Categorical(logits).sample(noise=noise))[0]

    @torch.no_grad()
    def sample_and_score(self, *, noise: Noise = DEFAULT) -> tuple[Tensor, Tensor]:
        """As :meth:`sample` and :meth:`log_prob`, in one pass."""
        code, logits = self.draw(lambda logits: Categorical(logits).sample(noise=noise))
        return code, Categorical(logits).log_prob(code).sum(-1)

    def mode(self) -> Tensor:
        """One-hot codes of the most probable category of each position, given those chosen before."""
        return self.draw(lambda logits: Categorical(logits).mode())[0]

    @torch.no_grad()
    def sample_without_replacement(self, n: int, *, noise: Noise = DEFAULT) -> tuple[Tensor, Tensor]:
        """``n`` different codes of a law ``(latents, categories)``, in the order of a draw without replacement.

        By ancestral Gumbel top-k: the perturbed log-probabilities of all codes are followed down the tree, and only the
        best ``n`` of each depth are kept (Kool et al. 2019, arXiv 1903.06059).

        Returns:
            One-hot codes ``(n, latents, categories)`` and their log-probabilities in nats, ``(n,)``.

        Raises:
            ZooError: if there are fewer than ``n`` codes.
        """
        latents, categories = self.logits.shape
        if n < 1 or n > categories**latents:
            raise ZooError(f"{categories} ** {latents} different codes cannot give {n} without replacement")
        log_p, perturbed = self.logits.new_zeros(1), self.logits.new_zeros(1)
        codes = self.logits.new_zeros(1, latents, categories)
        for position in range(latents):
            law = Chain(self.logits.expand(len(codes), -1, -1), self.net, self.context, tau=self.tau)
            children = log_p[:, None] + law.conditionals(codes)[:, position].log_softmax(-1)
            scores = at_most(perturbed[:, None], children + noise.gumbel(children))
            best = scores.flatten().topk(min(n, scores.numel())).indices
            parent, category = best // categories, best % categories
            log_p, perturbed = children.flatten()[best], scores.flatten()[best]
            codes = codes[parent]
            codes[torch.arange(len(codes)), position, category] = 1
        return codes, log_p


def at_most(top: Tensor, scores: Tensor) -> Tensor:
    """Gumbel ``scores`` ``(rows, children)`` given that the greatest of each row is ``top`` ``(rows, 1)``.

    Kool et al. 2019, appendix B.3.
    """
    greatest = scores.max(-1, keepdim=True).values
    v = top - scores + torch.log1p(-(scores - greatest).exp())  # minus infinity at the greatest
    return top - v.clamp_min(0) - torch.log1p((-v.abs()).exp())
