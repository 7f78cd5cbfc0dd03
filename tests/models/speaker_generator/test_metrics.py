"""Agreement of codes and speakers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.clustering import normalized_mutual_info_score

from zoo.models.speaker_generator.metrics import SpeakerStatistics, match, total_variation


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
    values = metric.compute()
    assert values["accuracy"] == 1 and values["nmi"].item() == pytest.approx(1) and values["codes_in_use"] == 3
    assert metric.matching().tolist() == [1, 2, 0] and metric.usage().tolist() == pytest.approx([0.3, 0.3, 0.4])


@pytest.mark.filterwarnings("ignore")  # within torchmetrics
def test_nmi_agrees_with_torchmetrics():
    speaker, code = torch.randint(4, (2, 500))
    code[::2] = speaker[::2]
    metric = SpeakerStatistics(4, 4)
    metric.update(code, speaker)
    expected = normalized_mutual_info_score(code, speaker, "arithmetic")
    assert metric.compute()["nmi"].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_single_code_says_nothing():
    metric = SpeakerStatistics(2, 2)
    metric.update(torch.zeros(10, dtype=torch.int64), torch.arange(10) % 2)
    values = metric.compute()
    assert values["accuracy"] == 0.5 and values["nmi"] == 0 and values["codes_in_use"] == 1


def test_recordings_of_unknown_speakers_count_for_usage_alone():
    metric = SpeakerStatistics(2, 2)
    metric.update(torch.tensor([0, 1, 1, 1]), torch.tensor([-1, -1, -1, -1]))
    assert not metric.known and metric.compute() == {"codes_in_use": 2} and metric.usage().tolist() == [0.25, 0.75]
    metric.update(torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert metric.compute()["accuracy"] == 1 and metric.matching().tolist() == [1, 0]


def test_total_variation():
    assert total_variation(torch.tensor([0.7, 0.3]), torch.tensor([0.5, 0.5])).item() == pytest.approx(0.2)
