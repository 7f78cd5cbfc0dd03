"""Encoders of a set and the decoder that points at its elements (Vinyals et al. 2015, arXiv 1506.03134)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Configurable, check_positive

LOWEST = torch.finfo(torch.float32).min
AT_ONCE = 2**20  # distances that are in memory at a time, where there is none for all of them


class Rows:
    """Distances of every two elements, computed from one element to all whenever they are needed.

    Args:
        of: ``of(index)``: from elements ``index``, int64 ``(batch, ...)``, to all, ``(batch, ..., n)``.
    """

    def __init__(self, of: Callable[[Tensor], Tensor]) -> None:
        self.of = of


Distances = Tensor | Rows
"""Of every two elements, ``(batch, n, n)``, or as they are needed."""


def rows(distances: Distances, choice: Tensor) -> Tensor:
    """Distances from what is chosen, as :func:`choose` takes it, to all, ``(batch, ..., n)``."""
    if isinstance(distances, Tensor):
        return choose(distances, choice)
    if choice.is_floating_point():  # of a relaxed choice the mean
        every = torch.arange(choice.shape[-1], device=choice.device).expand(choice.shape[0], -1)
        return choose(distances.of(every), choice)
    return distances.of(choice)


def nearest(distances: Tensor, count: int) -> Tensor:
    """The ``count``-th least of each row of ``distances``, ``(..., 1)``; the largest if there are fewer."""
    return distances.topk(min(count, distances.shape[-1]), largest=False).values[..., -1:]


def mean_near(distances: Tensor) -> Tensor:
    """The mean of the :data:`NEAR` least of each row of ``distances`` ``(..., n)``, without the zero of an element and
    itself, ``(...)``."""
    least = distances.topk(min(NEAR + 1, distances.shape[-1]), largest=False).values[..., 1:]
    return least.sum(-1) / max(1, least.shape[-1])


def at_once(batch: int, n: int, device: torch.device) -> list[Tensor]:
    """Indices of ``n`` elements, ``(batch, some)``, in parts whose rows are in memory at a time."""
    parts = torch.arange(n, device=device).split(max(1, AT_ONCE // max(1, batch * n)))
    return [part.expand(batch, -1) for part in parts]


NEAR = 5


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
        neighbours: the nearest elements that each sees, itself among them, where the task has distances; null for all.

    Raises:
        ValueError: if a number is less than 1 or ``heads`` does not divide ``width``.
    """

    def __init__(
        self,
        *,
        features: int,
        width: int = 128,
        layers: int = 3,
        heads: int = 8,
        feedforward: int = 256,
        neighbours: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(features=features, width=width, layers=layers, heads=heads, feedforward=feedforward)
        check_positive(neighbours=1 if neighbours is None else neighbours)
        check_heads(width, heads)
        self.inputs = nn.Linear(features, width)
        self.neighbours = neighbours
        self.layers = nn.ModuleList(EncoderLayer(width, heads, feedforward) for _ in range(layers))
        self.norm = nn.RMSNorm(width)

    def forward(self, x: Tensor, distances: Distances | None = None) -> Tensor:
        """Embeddings of ``x``, given ``distances`` or none."""
        h = self.inputs(x).float()  # the residual stream, also where products are in half precision
        for layer in self.layers:
            h = layer(h, distances, self.neighbours)
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

    def forward(self, h: Tensor, distances: Distances | None, neighbours: int | None = None) -> Tensor:
        q, k, v = split_heads(self.qkv(self.attention_norm(h)), 3 * self.heads).chunk(3, 1)
        if isinstance(distances, Rows):
            parts = at_once(h.shape[0], h.shape[1], h.device)
            attended = torch.cat([self.attend(q[:, :, i[0]], k, v, distances.of(i), neighbours) for i in parts], 2)
        else:
            attended = self.attend(q, k, v, distances, neighbours)
        h = h + self.out(join_heads(attended))
        return h + self.feedforward(self.feedforward_norm(h))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, distances: Tensor | None, neighbours: int | None) -> Tensor:
        """What some queries see, given their ``distances`` ``(batch, queries, n)``."""
        bias = None
        if distances is not None:
            bias = distances.unsqueeze(1) * -self.nearness.view(1, -1, 1, 1)
            if neighbours is not None:
                far = distances > nearest(distances, neighbours)
                bias = bias.masked_fill(far.unsqueeze(1), -torch.inf)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


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

    def forward(self, x: Tensor, distances: Distances | None = None) -> Tensor:
        return self.lstm(self.inputs(x))[0]


@dataclass
class Memory:
    """What the decoder knows of instances, projected once for all steps and starts.

    A query is a sum of parts: of the instance, of the first and of the last element, of the context. Without recurrence
    the logits before the glimpse are linear in it, so that what each element will add to them is known beforehand. The
    *cue* of a part is the part itself, where it is needed again, and behind it what it adds to the logits of the
    glimpse's heads and of the pointer: ``(batch, parts, cue)`` with ``cue`` = ``[width +] (heads + 1) n``.

    Attributes:
        glimpse_keys: ``(batch, heads, width / heads, n)``, divided by the root of that size.
        pointer_keys: ``(batch, width, n)``, likewise.
        seen: of each element that a head sees, what it adds to the logits of the pointer, ``(batch, heads * n, n)``;
            where a feed-forward part follows, or distances are :class:`Rows`, the values of attention, ``(batch, heads,
            n, width / heads)``.
        query: part of the instance, ``(batch, 1, width)``.
        first: part of each element as the first of a solution, ``(batch, n, width)``.
        last: cue of each element as the last of a solution, ``(batch, n, cue)``; where distances are :class:`Rows`, the
            part alone, ``(batch, n, width)``.
        distances: or None.
    """

    glimpse_keys: Tensor
    pointer_keys: Tensor
    seen: Tensor
    query: Tensor
    first: Tensor
    last: Tensor
    distances: Distances | None


State = dict[str, Tensor]
"""What a decoder keeps from step to step, ``(batch, starts, ...)`` each: the cue of what stays, the recurrent state."""


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
        neighbours: the nearest elements to the last one, of those that are allowed, that it sees and tells apart, where
            the task has distances: all others have the least logit. Null for all.

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
        neighbours: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(width=width, heads=heads, neighbours=1 if neighbours is None else neighbours)
        check_heads(width, heads)
        if feedforward < 0 or contexts < 0 or not clip > 0:
            raise ValueError(
                f"need feedforward >= 0, contexts >= 0 and clip > 0, got {feedforward}, {contexts}, {clip}"
            )
        self.width, self.heads, self.clip, self.neighbours = width, heads, clip, neighbours
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
        self.keeps_query = feedforward > 0 or query == "lstm"

    def prepare(self, h: Tensor, distances: Distances | None = None) -> Memory:
        """Project embeddings ``(batch, n, width)``."""
        glimpse_keys, values, pointer_keys = self.keys(h).float().chunk(3, -1)
        first, last = self.elements(h).float().chunk(2, -1)
        query = self.instance(h.mean(1, keepdim=True)).float()
        with torch.autocast(h.device.type, enabled=False):
            memory = Memory(
                glimpse_keys=split_heads(glimpse_keys, self.heads).mT / math.sqrt(self.width // self.heads),
                pointer_keys=pointer_keys.mT / math.sqrt(self.width),
                seen=split_heads(values, self.heads),
                query=query,
                first=first,
                last=last,
                distances=distances,
            )
            if isinstance(distances, Rows):  # what each element would add is computed when it is the last
                return memory
            memory.last = self.cue(memory, last, distances, 0)
            if self.feedforward is None:  # all that follows the glimpse is linear; its weights sum to 1 in each head
                weight = (self.out.weight.T @ memory.pointer_keys).unflatten(1, (self.heads, -1))
                bias = self.out.bias / self.heads @ memory.pointer_keys
                memory.seen = (memory.seen @ weight + bias[:, None, None]).flatten(1, 2)
        return memory

    def cue(self, memory: Memory, query: Tensor, distances: Tensor | None = None, end: int = 0) -> Tensor:
        """The cue of parts ``query`` ``(batch, parts, width)``.

        Args:
            memory: of :meth:`prepare`.
            query: parts.
            distances: from elements that are an end of the solution, ``(batch, parts, n)``.
            end: 0 if that is the last element, 1 if it is the first.
        """
        if self.lstm is None:
            logits = self.logits(memory, query)
        else:  # they are not linear in the parts
            logits = query.new_zeros(*query.shape[:2], self.heads + 1, memory.pointer_keys.shape[-1])
        if distances is not None:
            logits = torch.addcmul(logits, distances.unsqueeze(2), self.nearness[:, end].view(-1, 1))
        logits = logits.flatten(2)
        return torch.cat([query, logits], -1) if self.keeps_query else logits

    def logits(self, memory: Memory, query: Tensor) -> Tensor:
        """Of the glimpse's heads and, before it has its glimpse, of the pointer, ``(batch, queries, heads + 1, n)``."""
        with torch.autocast(query.device.type, enabled=False):
            query = query.float()
            glimpse = split_heads(query, self.heads) @ memory.glimpse_keys
            return torch.cat([glimpse.transpose(1, 2), (query @ memory.pointer_keys).unsqueeze(2)], 2)

    def opening(self, memory: Memory, first: Tensor) -> Tensor:
        """Cue of the instance and the first element, ``(batch, starts, cue)``."""
        distances = None if memory.distances is None else rows(memory.distances, first)
        return self.cue(memory, memory.query + choose(memory.first, first), distances, 1)

    def ending(self, memory: Memory, last: Tensor) -> Tensor:
        """Cue of the last element, ``(batch, ..., cue)``."""
        if not isinstance(memory.distances, Rows):
            return choose(memory.last, last)
        part, distances = choose(memory.last, last), rows(memory.distances, last)
        return self.cue(memory, part.flatten(1, -2), distances.flatten(1, -2)).unflatten(1, part.shape[1:-1])

    def near(self, memory: Memory, mask: Tensor, last: Tensor) -> Tensor:
        """What ``mask`` ``(batch, ..., n)`` allows and is among the nearest to the ``last`` elements."""
        if self.neighbours is None or memory.distances is None:
            return mask
        distances = rows(memory.distances, last).masked_fill(~mask, torch.inf)
        return mask & (distances <= nearest(distances, self.neighbours))

    def step(
        self,
        memory: Memory,
        mask: Tensor,
        first: Tensor | None,
        last: Tensor | None,
        context: Tensor | None,
        state: State,
    ) -> tuple[Tensor, State]:
        """Logits of the next choice in every solution under way, and what is kept for the step after.

        Args:
            memory: of :meth:`prepare`.
            mask: boolean ``(batch, starts, n)``, true where allowed.
            first, last: elements chosen, as indices ``(batch, starts)`` or one-hot or relaxed ``(batch, starts, n)``;
                None at the first step.
            context: ``(batch, starts, contexts)`` or None.
            state: of the step before; empty at the first.
        """
        if first is None or last is None:
            cue = self.cue(memory, memory.query + self.nothing).expand(*mask.shape[:2], -1)
        else:
            if "opening" not in state:
                state = {**state, "opening": self.opening(memory, first)}
            cue = state["opening"] + self.ending(memory, last)
            mask = self.near(memory, mask, last)
        if context is not None and self.context is not None:
            cue = cue + self.cue(memory, self.context(context.float()))
        if self.lstm is not None:
            kept = None
            if "hidden" in state:
                kept = state["hidden"].reshape(1, -1, self.width), state["cell"].reshape(1, -1, self.width)
            query, (hidden, cell) = self.lstm(cue[..., : self.width].reshape(-1, 1, self.width), kept)
            query, hidden, cell = (part.view(*mask.shape[:2], -1) for part in (query, hidden, cell))
            state = {**state, "hidden": hidden, "cell": cell}
            cue = torch.cat([query, cue[..., self.width :] + self.logits(memory, query).flatten(2)], -1)
        return self.point(memory, cue, mask), state

    def score(self, memory: Memory, order: Tensor, masks: Tensor, given: int, context: Tensor | None) -> Tensor:
        """Logits ``(batch, starts, steps - given, n)`` of every choice of whole solutions, in one call.

        Args:
            memory: of :meth:`prepare`.
            order: int64 ``(batch, starts, steps)``.
            masks: boolean ``(batch, starts, steps - given, n)``.
            given: 1 if the first element of each is given, not chosen; else 0.
            context: ``(batch, starts, steps - given, contexts)`` or None.
        """
        batch, starts, steps = order.shape
        cue = self.ending(memory, order[..., : steps - 1])
        cue += self.opening(memory, order[..., 0]).unsqueeze(2)
        later = masks[:, :, 1 - given :]
        masks = torch.cat([masks[:, :, : 1 - given], self.near(memory, later, order[..., : steps - 1])], 2)
        if not given:
            begin = self.cue(memory, memory.query + self.nothing).unsqueeze(1)
            cue = torch.cat([begin.expand(batch, starts, -1, -1), cue], 2)
        cue = cue.flatten(1, 2)  # (batch, rows, cue)
        if context is not None and self.context is not None:
            cue = cue + self.cue(memory, self.context(context.flatten(1, 2).float()))
        if self.lstm is not None:
            query = self.lstm(cue[..., : self.width].reshape(batch * starts, -1, self.width))[0]
            query = query.reshape(batch, -1, self.width)
            cue = torch.cat([query, cue[..., self.width :] + self.logits(memory, query).flatten(2)], -1)
        return self.point(memory, cue, masks.flatten(1, 2)).view(masks.shape)

    def point(self, memory: Memory, cue: Tensor, mask: Tensor) -> Tensor:
        """Logits ``(batch, queries, n)``, in [-clip, clip], of whole cues ``(batch, queries, cue)``.

        What ``mask`` forbids is not seen by the glimpse, and gets the least logit where there are neighbours; the
        caller keeps what is not allowed from being chosen.
        """
        n = mask.shape[-1]
        query, glimpse, logits = cue.split([self.width * self.keeps_query, self.heads * n, n], -1)
        shut = torch.where(mask, 0.0, LOWEST).unsqueeze(2)  # finite: no NaN where a row leaves nothing
        weights = (glimpse.unflatten(-1, (self.heads, n)) + shut).softmax(-1)
        if memory.seen.dim() == 3:
            added, keys = weights.flatten(2), memory.seen
        else:
            glimpse = self.out(join_heads(weights.transpose(1, 2) @ memory.seen))
            added, keys = glimpse, memory.pointer_keys
            if self.feedforward is not None:
                added = glimpse + self.feedforward(self.norm(query + glimpse))
        with torch.autocast(added.device.type, enabled=False):  # near the clip, half precision has few values
            logits = torch.baddbmm(logits, added.float(), keys)
        logits = self.clip * logits.tanh()
        return logits if self.neighbours is None else torch.where(mask, logits, -self.clip)


def choose(table: Tensor, choice: Tensor) -> Tensor:
    """Rows of ``table`` ``(batch, n, features)`` by index ``(batch, ...)`` or by weights ``(batch, starts, n)``."""
    if choice.is_floating_point():
        with torch.autocast(table.device.type, enabled=False):
            return choice.to(table.dtype) @ table
    batch, n = table.shape[:2]
    row = choice + n * torch.arange(batch, device=choice.device).view(-1, *[1] * (choice.dim() - 1))
    return F.embedding(row, table.flatten(0, 1))  # quicker than gather, forward and backward


def check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"heads must divide width, got {heads} and {width}")


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``(batch, n, heads * size)`` to ``(batch, heads, n, size)``."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """The inverse of :func:`split_heads`."""
    return x.transpose(1, 2).flatten(2)
