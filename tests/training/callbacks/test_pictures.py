"""Names of pictures and sounds as files."""

from types import SimpleNamespace

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from zoo.training.callbacks.pictures import LONGEST_NAME, Pictures, file_name


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_file_name_stays_in_its_folder_and_is_of_one_name(name, other):
    coded = file_name(name)
    assert (
        coded and not set(coded) & set("/\\\0:") and not coded.startswith(".") and len(coded.encode()) <= LONGEST_NAME
    )
    assert name == other or coded != file_name(other) or "%" in name + other


def test_sounds_of_speakers_with_odd_names_are_written_where_they_belong(tmp_path):
    names = ["anna", "a/b", "../../c", "ab" * 150, "ab" * 151, "李" * 150, "日" * 150]
    model = nn.Linear(1, 1)
    model.sounds = lambda batch: {f"{name}_real": torch.zeros(100) for name in names}
    trainer = SimpleNamespace(
        is_global_zero=True,
        test_dataloaders=[torch.zeros(1)],
        strategy=SimpleNamespace(batch_to_device=lambda batch: batch),
        loggers=[],
    )
    Pictures(tmp_path / "run/pictures", tmp_path / "run/sounds").on_test_end(trainer, model)
    assert {path.parent for path in tmp_path.rglob("*.wav")} == {tmp_path / "run/sounds"}
    assert len([*tmp_path.rglob("*.wav")]) == len(names) and (tmp_path / "run/sounds/anna_real.wav").exists()
