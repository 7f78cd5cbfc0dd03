"""Encoders of a set and the decoder that points at its elements (Vinyals et al. 2015, arXiv 1506.03134)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Configurable
from zoo.nets.code_layers import check_positive


class TransformerEncoder(Configurable, nn.Module):
    """Elements ``(batch, n, features)`` to embeddings ``(batch, n, width)``, whatever their order.

    Self-attention in the pre-norm form. Where the task has a distance of every two elements, each head of each layer
    subtracts a learned multiple of it from its attention logits: what is near is known without being inferred from
    coordinates, and at any number of elements.

    Args:
        features: numbers that describe an element.
        width: of the embeddings.
        layers, heads: of the attention; ``heads`` divides ``width``.
        feedforward: hidden units of the feed-forward part.

    Raises:
        ValueError: if a number is less than 1 or ``heads`` does not divide ``width``.
    """

    def __init__(
        self, *, features: int, width: int = 128, layers: int = 3, heads: int = 8, feedforward: int = 256
    ) -> None:
        super().__init__()
        check_positive(features=features, width=width, layers=layers, heads=heads, feedforward=feedforward)
        check_heads(width, heads)
        self.inputs = nn.Linear(features, width)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, feedforward) for _ in range(layers))
        self.norm = nn.RMSNorm(width)

    def forward(self, x: Tensor, distances: Tensor | None = None) -> Tensor:
        """Embeddings of ``x``, given ``distances`` ``(batch, n, n)`` or none."""
        h = self.inputs(x).float()  # the residual stream, also where products are in half precision
        for layer in self.layers:
            h = layer(h, distances)
        return self.norm(h)


class EncoderLayer(nn.Module):
    """``h + attention(norm(h))``, then ``h + feedforward(norm(h))``."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feedforward_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.SiLU(), nn.Linear(feedforward, width))
        self.nearness = nn.Parameter(torch.linspace(0, 8, heads))  # from heads that see all to heads that see near

    def forward(self, h: Tensor, distances: Tensor | None) -> Tensor:
        q, k, v = split_heads(self.qkv(self.attention_norm(h)), 3 * self.heads).chunk(3, 1)
        bias = None if distances is None else distances.unsqueeze(1) * -self.nearness.view(1, -1, 1, 1)
        h = h + self.out(join_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=bias)))
        return h + self.feedforward(self.feedforward_norm(h))


class LSTMEncoder(Configurable, nn.Module):
    """Elements in the order they are given to the states of an LSTM, as in Vinyals et al. 2015.

    Args:
        features: numbers that describe an element.
        width: of the embeddings.
        layers: of the LSTM.

    Raises:
        ValueError: if a number is less than 1.
    """

    def __init__(self, *, features: int, width: int = 128, layers: int = 1) -> None:
        super().__init__()
        check_positive(features=features, width=width, layers=layers)
        self.inputs = nn.Linear(features, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)

    def forward(self, x: Tensor, distances: Tensor | None = None) -> Tensor:
        return self.lstm(self.inputs(x))[0]


@dataclass
class Memory:
    """What the decoder knows of instances, projected once for all steps and starts.

    Attributes:
        glimpse_keys, glimpse_values: ``(batch, heads, n, width / heads)``.
        pointer_keys: ``(batch, n, width)``.
        first, last: what an element adds to the query as the first or the last of a solution, ``(batch, n, width)``.
        query: what the whole instance adds to it, ``(batch, 1, width)``.
        distances: ``(batch, n, n)``, or None.
    """

    glimpse_keys: Tensor
    glimpse_values: Tensor
    pointer_keys: Tensor
    first: Tensor
    last: Tensor
    query: Tensor
    distances: Tensor | None


State = tuple[Tensor, Tensor] | None
"""Of the recurrent query: hidden and cell state, ``(rows, width)`` each."""


class PointerDecoder(Configurable, nn.Module):
    """Queries to logits over elements: a glimpse at what may still be chosen, then a pointer with clipped logits.

        logits = clip tanh(glimpsed_query . key / sqrt(width) + nearness)

    after Bello et al. 2016 (arXiv 1611.09940, appendix A.1), the query after Kool et al. 2019 (arXiv 1803.08475,
    section 3.2) or recurrent as in Vinyals et al. 2015. All keys are projected once for an instance. With the query
    of Kool et al. nothing passes from step to step but the choice, so that a whole solution is scored at once.

    Args:
        width: of the embeddings.
        heads: of the glimpse; divides ``width``.
        clip: C, the largest logit (10 in Bello et al.).
        feedforward: hidden units after the glimpse; 0 for none.
        query: ``first_last``, the sum of what the instance and the first and last element add; or ``lstm``.
        contexts: numbers the task tells at each step.

    Raises:
        ValueError: if a number is out of range or ``heads`` does not divide ``width``.
    """

    def __init__(
        self,
        *,
        width: int = 128,
        heads: int = 8,
        clip: float = 10.0,
        feedforward: int = 128,
        query: Literal["first_last", "lstm"] = "first_last",
        contexts: int = 0,
    ) -> None:
        super().__init__()
        check_positive(width=width, heads=heads)
        check_heads(width, heads)
        if feedforward < 0 or contexts < 0 or not clip > 0:
            raise ValueError(
                f"need feedforward >= 0, contexts >= 0 and clip > 0, got {feedforward}, {contexts}, {clip}"
            )
        self.width, self.heads, self.clip = width, heads, clip
        self.keys = nn.Linear(width, 3 * width, bias=False)  # of the glimpse, its values, of the pointer
        self.elements = nn.Linear(width, 2 * width, bias=False)  # as the first, as the last
        self.instance = nn.Linear(width, width)
        self.nothing = nn.Parameter(torch.zeros(width))  # in place of the last element at the first step
        self.context = nn.Linear(contexts, width, bias=False) if contexts else None
        self.lstm = nn.LSTM(width, width, batch_first=True) if query == "lstm" else None
        self.out = nn.Linear(width, width)
        self.norm = nn.RMSNorm(width)
        self.feedforward = None
        if feedforward:
            self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.SiLU(), nn.Linear(feedforward, width))
        # Of the distances to the last and to the first element, for each head and for the pointer.
        self.nearness = nn.Parameter(torch.zeros(heads + 1, 2))

    def prepare(self, h: Tensor, distances: Tensor | None = None) -> Memory:
        """Project embeddings ``(batch, n, width)``."""
        glimpse_keys, glimpse_values, pointer_keys = self.keys(h).chunk(3, -1)
        first, last = self.elements(h).chunk(2, -1)
        return Memory(
            glimpse_keys=split_heads(glimpse_keys, self.heads),
            glimpse_values=split_heads(glimpse_values, self.heads),
            pointer_keys=pointer_keys / math.sqrt(self.width),
            first=first,
            last=last,
            query=self.instance(h.mean(1, keepdim=True)),
            distances=distances,
        )

    def step(
        self,
        memory: Memory,
        mask: Tensor,
        first: Tensor | None,
        last: Tensor | None,
        context: Tensor | None,
        state: State,
    ) -> tuple[Tensor, State]:
        """Logits of the next choice in every solution under way, and the recurrent state.

        Args:
            memory: of :meth:`prepare`.
            mask: boolean ``(batch, starts, n)``, true where allowed.
            first, last: elements chosen, as indices ``(batch, starts)`` or one-hot or relaxed ``(batch, starts, n)``;
                None at the first step.
            context: ``(batch, starts, contexts)`` or None.
            state: of the step before; None at the first.
        """
        batch, starts, _ = mask.shape
        if first is None or last is None:
            query, near = (memory.query + self.nothing).expand(batch, starts, -1), None
        else:
            query = memory.query + choose(memory.last, last) + choose(memory.first, first)
            near = self.near(memory, first, last)
        if context is not None and self.context is not None:
            query = query + self.context(context)
        if self.lstm is not None:
            if state is not None:
                state = (state[0].unsqueeze(0), state[1].unsqueeze(0))
            query, (hidden, cell) = self.lstm(query.reshape(batch * starts, 1, -1), state)
            query, state = query.view(batch, starts, -1), (hidden[0], cell[0])
        return self.point(memory, query, mask, near), state

    def score(self, memory: Memory, order: Tensor, masks: Tensor, given: int, context: Tensor | None) -> Tensor:
        """Logits ``(batch, starts, steps - given, n)`` of every choice of whole solutions, in one call.

        Args:
            memory: of :meth:`prepare`.
            order: int64 ``(batch, starts, steps)``.
            masks: boolean ``(batch, starts, steps, n)``.
            given: 1 if the first element of each is given, not chosen; else 0.
            context: ``(batch, starts, steps, contexts)`` or None.
        """
        batch, starts, steps = order.shape
        before = order[..., : steps - 1]
        first = order[..., :1].expand_as(before)
        query = memory.query.unsqueeze(1) + choose(memory.last, before) + choose(memory.first, order[..., :1])
        near = self.near(memory, first, before)
        if not given:
            opening = (memory.query + self.nothing).unsqueeze(1).expand(batch, starts, 1, -1)
            query = torch.cat([opening, query], 2)
            if near is not None:
                near = F.pad(near, (0, 0, 0, 0, 1, 0))
        if context is not None and self.context is not None:
            query = query + self.context(context[:, :, given:])
        if self.lstm is not None:
            query = self.lstm(query.flatten(0, 1))[0].view(query.shape)
        rows = starts * (steps - given)
        logits = self.point(
            memory,
            query.reshape(batch, rows, -1),
            masks[:, :, given:].reshape(batch, rows, -1),
            None if near is None else near.reshape(batch, rows, -1, 2),
        )
        return logits.view(batch, starts, steps - given, -1)

    def near(self, memory: Memory, first: Tensor, last: Tensor) -> Tensor | None:
        """Distances to the last and to the first element, ``(batch, ..., n, 2)``."""
        if memory.distances is None:
            return None
        return torch.stack([choose(memory.distances, last), choose(memory.distances, first)], -1)

    def point(self, memory: Memory, query: Tensor, mask: Tensor, near: Tensor | None) -> Tensor:
        """Logits ``(batch, queries, n)``, in [-clip, clip], of queries ``(batch, queries, width)``.

        What ``mask`` forbids is not seen by the glimpse; the caller keeps it from being chosen.
        """
        bias = None
        if near is not None:
            bias = (near @ self.nearness.T).movedim(-1, 1)  # (batch, heads + 1, queries, n)
        logits = split_heads(query, self.heads) @ memory.glimpse_keys.transpose(-2, -1)
        logits = logits / math.sqrt(self.width // self.heads)
        if bias is not None:
            logits = logits + bias[:, :-1]
        weights = logits.masked_fill(~mask.unsqueeze(1), -torch.finfo(logits.dtype).max).softmax(-1)
        query = query.float() + self.out(join_heads(weights @ memory.glimpse_values))
        if self.feedforward is not None:
            query = query + self.feedforward(self.norm(query))
        with torch.autocast(query.device.type, enabled=False):  # near the clip, half precision has few values
            logits = query.float() @ memory.pointer_keys.float().transpose(-2, -1)
        if bias is not None:
            logits = logits + bias[:, -1]
        return self.clip * logits.tanh()


def choose(table: Tensor, choice: Tensor) -> Tensor:
    """Rows of ``table`` ``(batch, n, features)`` by index ``(batch, ...)`` or by weights ``(batch, starts, n)``."""
    if choice.is_floating_point():
        return choice.to(table.dtype) @ table
    index = choice.reshape(choice.shape[0], -1, 1).expand(-1, -1, table.shape[-1])
    return table.gather(1, index).view(*choice.shape, table.shape[-1])


def check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"heads must divide width, got {heads} and {width}")


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``(batch, n, heads * size)`` to ``(batch, heads, n, size)``."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """The inverse of :func:`split_heads`."""
    return x.transpose(1, 2).flatten(2)
