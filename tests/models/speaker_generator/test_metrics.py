"""Agreement of codes and speakers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.clustering import normalized_mutual_info_score

from zoo.models.speaker_generator.metrics import SpeakerStatistics, agreement, match, total_variation, usage


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**31))
def test_the_matching_is_the_best(rows, columns, seed):
    assign = pytest.importorskip("scipy.optimize").linear_sum_assignment
    counts = torch.randint(0, 40, (rows, columns), generator=torch.Generator().manual_seed(seed))
    found = match(counts)
    chosen = [column for column in found.tolist() if column >= 0]
    assert len(set(chosen)) == len(chosen) == min(rows, columns)
    best = counts.numpy()[assign(-counts.numpy())].sum()
    assert sum(counts[i, j].item() for i, j in enumerate(found.tolist()) if j >= 0) == best


def test_statistics_of_permuted_codes():
    speaker = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    metric = SpeakerStatistics(3, 3)
    code = torch.tensor([2, 0, 1])[speaker]
    metric.update(code[:4], speaker[:4])
    metric.update(code[4:], speaker[4:])
    counts = metric.compute()
    matching = match(counts[:, :-1])
    values = agreement(counts[:, :-1], matching)
    assert values["accuracy"] == 1 and values["nmi"].item() == pytest.approx(1)
    assert matching.tolist() == [1, 2, 0] and usage(counts).tolist() == pytest.approx([0.3, 0.3, 0.4])
    assert agreement(counts[:, :-1], torch.tensor([1, 0, 2]))["accuracy"].item() == pytest.approx(0.3)
    assert agreement(counts[:, :-1], torch.tensor([1, -1, -1]))["accuracy"].item() == pytest.approx(0.3)


@pytest.mark.filterwarnings("ignore")  # within torchmetrics
def test_nmi_agrees_with_torchmetrics():
    speaker, code = torch.randint(4, (2, 500))
    code[::2] = speaker[::2]
    metric = SpeakerStatistics(4, 4)
    metric.update(code, speaker)
    expected = normalized_mutual_info_score(code, speaker, "arithmetic")
    counts = metric.compute()[:, :-1]
    assert agreement(counts, match(counts))["nmi"].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_single_code_says_nothing():
    metric = SpeakerStatistics(2, 2)
    metric.update(torch.zeros(10, dtype=torch.int64), torch.arange(10) % 2)
    counts = metric.compute()[:, :-1]
    assert agreement(counts, match(counts)) == {"accuracy": 0.5, "nmi": 0} and usage(counts).tolist() == [1, 0]


def test_recordings_of_unknown_speakers_count_for_usage_alone():
    metric = SpeakerStatistics(2, 2)
    metric.update(torch.tensor([0, 1, 1, 1]), torch.tensor([-1, -1, -1, -1]))
    assert metric.compute().tolist() == [[0, 0, 1], [0, 0, 3]] and usage(metric.compute()).tolist() == [0.25, 0.75]
    metric.update(torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert metric.compute().tolist() == [[0, 1, 1], [1, 0, 3]]


def test_total_variation():
    assert total_variation(torch.tensor([0.7, 0.3]), torch.tensor([0.5, 0.5])).item() == pytest.approx(0.2)
