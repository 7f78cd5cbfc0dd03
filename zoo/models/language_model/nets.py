"""Networks from tokens to logits of the next one.

Both have ``forward(tokens, state, choose)`` for many tokens at a time and ``step`` for one; a state is nested tensors
whose first dimension is the batch.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.models.experts import Experts, Router, routes
from zoo.relaxations import Bernoulli, Distribution

Choose = Callable[[Distribution], Tensor]
"""A distribution of gates or of experts, ``(batch, ...)``, to a value of it, hard or soft."""


class Recurrent(Configurable, nn.Module):
    """LSTM layers (Hochreiter & Schmidhuber 1997), whose gates are whatever they are said to be.

    Args:
        vocabulary: tokens there are.
        embedding: width of a token's vector.
        width: of the state of each layer.
        layers: one above the other.
        dropout: between layers and before the output, in [0, 1).

    Raises:
        ValueError: if a number is out of range.
    """

    gated = True
    """Whether there are gates."""
    experts = 0
    """Of how many one or more are chosen for each token; 0 for none."""

    def __init__(
        self, *, vocabulary: int, embedding: int = 128, width: int = 512, layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_positive(vocabulary=vocabulary, embedding=embedding, width=width, layers=layers)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, vocabulary)
        for name, bias in self.lstm.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(bias)
            if name.startswith("bias_ih"):
                nn.init.ones_(bias[width : 2 * width])  # forget gates begin open (Gers et al. 2000)

    def begin(self, tokens: Tensor) -> Any:
        """The state before any of ``tokens`` ``(batch, ...)``."""
        zero = self.head.weight.new_zeros(tokens.shape[0], self.lstm.num_layers, self.lstm.hidden_size)
        return zero, zero

    def forward(self, tokens: Tensor, state: Any, choose: Choose | None = None) -> tuple[Tensor, Any]:
        """Logits of the token after each of ``tokens``, ``(batch, steps, vocabulary)``, and the state after all.

        Args:
            choose: makes a value of gates, ``(batch, 3 * width)``: to write, to keep, to read; None for sigmoids, by
                PyTorch's own LSTM.
        """
        outputs = self.embedding(tokens)
        if choose is None and torch.compiler.is_exporting():
            choose = sigmoids  # PyTorch's own LSTM moves its weights about, which an export takes ill
        if choose is None:
            before = tuple(part.transpose(0, 1).contiguous() for part in state)
            outputs, after = self.lstm(outputs, before)
            return self.head(self.dropout(outputs)), tuple(part.transpose(0, 1) for part in after)
        (hidden, cell), ends = state, []
        for i in range(self.lstm.num_layers):
            of_input, of_state, bias, more = self.lstm.all_weights[i]
            projected = F.linear(self.dropout(outputs) if i else outputs, of_input, bias + more)
            h, c, seen = hidden[:, i], cell[:, i], []
            for x in projected.unbind(1):
                write, keep, new, read = (x + F.linear(h, of_state)).chunk(4, -1)
                write, keep, read = choose(Bernoulli(torch.cat([write, keep, read], -1))).chunk(3, -1)
                c = keep * c + write * new.tanh()
                h = read * c.tanh()
                seen.append(h)
            outputs = torch.stack(seen, 1)
            ends.append((h, c))
        hiddens, cells = zip(*ends)
        return self.head(self.dropout(outputs)), (torch.stack(hiddens, 1), torch.stack(cells, 1))

    def step(self, tokens: Tensor, state: Any, choose: Choose | None = None) -> tuple[Tensor, Any]:
        """The same for one token, ``(batch,)`` to ``(batch, vocabulary)``."""
        logits, state = self(tokens.unsqueeze(1), state, choose)
        return logits.squeeze(1), state


def sigmoids(gates: Distribution) -> Tensor:
    """How probable it is that each gate is open."""
    return gates.logits.sigmoid()


class Transformer(Configurable, nn.Module):
    """A causal transformer with rotary positions, normalisation first.

    It has no gates. Its state are the last tokens. With ``experts`` the hidden layer of
    each block is a mixture: a router sends each token to k of them (Fedus et al. 2022, arXiv 2101.03961).

    Args:
        vocabulary: tokens there are.
        width: of a token's vector.
        layers: one above the other.
        heads: of the attention.
        feedforward: width of the hidden layer, of each expert where there are some.
        context: tokens that a token attends to, itself among them; at most as many as there are in training.
        dropout: in [0, 1).
        experts: in each block; 0 for one hidden layer that all tokens go through.
        k: experts for each token; what they say is averaged.

    Raises:
        ValueError: if a number is out of range, or the heads do not divide the width into even parts.
    """

    gated = False

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int = 192,
        layers: int = 4,
        heads: int = 6,
        feedforward: int = 768,
        context: int = 128,
        dropout: float = 0.0,
        experts: int = 0,
        k: int = 1,
    ) -> None:
        super().__init__()
        check_positive(vocabulary=vocabulary, width=width, layers=layers, heads=heads)
        check_positive(feedforward=feedforward, context=context)
        if width % (2 * heads) or not 0 <= dropout < 1:
            raise ValueError(
                f"need width divisible by 2 * heads and dropout in [0, 1), got {width}, {heads}, {dropout}"
            )
        if experts < 0 or not 1 <= k <= max(1, experts):
            raise ValueError(f"need experts >= 0, and k from 1 to as many; got k={k} of {experts} experts")
        self.context, self.experts, self.k, self.layers = context, experts, k, layers
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads, feedforward, dropout, experts, k) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        nn.init.normal_(self.embedding.weight, std=1.0)
        for block in self.blocks:
            assert isinstance(block, Block)
            for weight in (block.mix.weight, block.experts.shrink if experts else block.shrink.weight):
                nn.init.normal_(weight, std=(width * 2 * layers) ** -0.5)

    @property
    def multiplications(self) -> tuple[int, int]:
        """Of the routers and experts for one token, and of all experts."""
        few = every = 0
        for block in self.blocks:
            if isinstance(block, Block) and block.router is not None:
                few += block.router.multiplications + self.k * block.experts.multiplications
                every += self.experts * block.experts.multiplications
        return few, every

    def begin(self, tokens: Tensor) -> Any:
        """The state before any of ``tokens`` ``(batch, ...)``: no token has been seen."""
        return torch.full((tokens.shape[0], self.context), -1, device=tokens.device)

    def forward(self, tokens: Tensor, state: Any, choose: Choose | None = None) -> tuple[Tensor, Any]:
        """Logits of the token after each of ``tokens``, ``(batch, steps, vocabulary)``, and the state after all.

        What the state has seen is seen by none of them: a window begins anew.

        Args:
            choose: makes weights of the experts, ``(batch, steps, experts)``, for one block after another; None for the
                most probable.
        """
        x, seen = self.embedding(tokens), None
        if tokens.shape[1] > self.context:
            ago = torch.arange(tokens.shape[1], device=tokens.device)
            ago = ago.unsqueeze(1) - ago
            seen = (ago >= 0) & (ago < self.context)
        for block in self.blocks:
            x = block(x, choose or most_probable, seen)
        return self.head(self.norm(x)), torch.cat([state, tokens], 1)[:, -self.context :]

    def step(self, tokens: Tensor, state: Any, choose: Choose | None = None) -> tuple[Tensor, Any]:
        """One token after those of the state, ``(batch,)`` to ``(batch, vocabulary)``; all rows have seen as many."""
        state = torch.cat([state, tokens.unsqueeze(1)], 1)[:, -self.context :]
        seen = state[:, int((state[0] < 0).sum()) :]
        return self(seen, state, choose)[0][:, -1], state


class Block(nn.Module):
    """Attention to what came before, and a hidden layer or experts."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, experts: int, k: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.project = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.k, self.router = k, None
        if experts:
            self.router = Router(features=width, experts=experts)
            self.experts = Experts(features=width, outputs=width, experts=experts, hidden=feedforward)
        else:
            self.grow = nn.Linear(width, feedforward)
            self.shrink = nn.Linear(feedforward, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, choose: Choose, seen: Tensor | None = None) -> Tensor:
        """``seen`` ``(steps, steps)`` says which tokens each attends to; None for itself and all before it."""
        query, key, value = self.project(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        query, key, value = rotate(query.transpose(1, 2)), rotate(key.transpose(1, 2)), value.transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=seen is None)
        x = x + self.dropout(self.mix(mixed.transpose(1, 2).flatten(2)))
        y = self.norms[1](x)
        if self.router is None:
            return x + self.dropout(self.shrink(F.gelu(self.grow(y))))
        weights = choose(routes(self.router(y).float(), self.k)).to(y.dtype) / self.k
        mix = self.experts if self.training or torch.compiler.is_exporting() else self.experts.sparse
        return x + self.dropout(mix(y.flatten(0, 1), weights.flatten(0, 1)).view_as(y))


def most_probable(distribution: Distribution) -> Tensor:
    """The value that a choice has in the end."""
    return distribution.mode()


def rotate(x: Tensor) -> Tensor:
    """Pairs of ``(batch, heads, steps, width)`` turned by angles that grow with the step (Su et al. 2021)."""
    steps, half = x.shape[-2], x.shape[-1] // 2
    rates = torch.exp(torch.arange(half, device=x.device) * (-math.log(10_000.0) / half))
    angle = torch.arange(steps, device=x.device).unsqueeze(1) * rates
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * angle.cos() - right * angle.sin(), left * angle.sin() + right * angle.cos()], -1)
