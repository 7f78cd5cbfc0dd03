"""What predicts a text without a network: an n-gram model, and a compressor."""

import lzma
import math
from collections.abc import Sequence

import numpy as np

ORDER = 6


def ngram(train: np.ndarray, test: np.ndarray, vocabulary: int, order: int = ORDER) -> float:
    """Nats a token of ``test`` by n-grams of ``train`` with Witten-Bell smoothing.

    ``p(w | h) = (c(h w) + t(h) p(w | shorter h)) / (c(h) + t(h))`` with t(h) different tokens seen after h; a history
    that was never seen leaves it to the shorter one, the empty one to uniform.

    Args:
        train, test: tokens, int64 ``(n,)``.
        vocabulary: tokens there are.
        order: n.

    Source: Witten & Bell 1991, "The zero-frequency problem", method C.
    """
    p = np.full(len(test) - order + 1, 1.0 / vocabulary)
    words, tested = train[order - 1 :], test[order - 1 :]
    history, asked = np.zeros(len(words), np.int64), np.zeros(len(tested), np.int64)  # numbers of histories; -1: unseen
    for length in range(order):
        if length:
            back = order - 1 - length
            known, history = np.unique(history * vocabulary + train[back : back + len(words)], return_inverse=True)
            asked = np.where(asked >= 0, find(known, asked * vocabulary + test[back : back + len(tested)]), -1)
        grams, counts = np.unique(history * vocabulary + words, return_counts=True)
        seen = np.bincount(history).astype(np.float64)
        kinds = np.bincount(grams // vocabulary, minlength=len(seen)).astype(np.float64)
        place = find(grams, asked * vocabulary + tested)
        count = np.where((place >= 0) & (asked >= 0), counts[place], 0)
        there = np.maximum(asked, 0)
        p = np.where(asked >= 0, (count + kinds[there] * p) / (seen[there] + kinds[there]), p)
    return float(-np.log(p).mean())


def find(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Where in the sorted ``known`` each of ``asked`` is; -1 where it is not."""
    place = np.searchsorted(known, asked).clip(max=len(known) - 1)
    return np.where(known[place] == asked, place, -1)


def compressor(train: Sequence[str], test: Sequence[str]) -> float:
    """Nats that ``xz`` needs for ``test`` after ``train``, in all."""
    before, after = ("\n".join(texts).encode() for texts in (train, [*train, *test]))
    size = 1 << max(20, len(after).bit_length())
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": size}]
    sizes = [len(lzma.compress(text, lzma.FORMAT_XZ, filters=filters)) for text in (before, after)]
    return (sizes[1] - sizes[0]) * 8 * math.log(2)
