"""Checkpoints: whole or not at all, and never code."""

import pickle
import signal
from types import SimpleNamespace

import pytest
import torch

from zoo.errors import ZooError
from zoo.hub.files import read_checkpoint
from zoo.training.checkpointing import AtomicCheckpointIO, ResumeCheckpoints, newest_checkpoint

GOOD = {"state_dict": {"a": torch.arange(1000.0)}, "config": {}}


def save(path):
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    return path


def test_round_trip(tmp_path):
    assert torch.equal(read_checkpoint(save(tmp_path / "deep/a.ckpt"))["state_dict"]["a"], torch.arange(1000.0))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("write failed")])
def test_a_write_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch, error):
    path = save(tmp_path / "a.ckpt")

    def half(_, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(ZooError, match=r"cannot write .*a\.ckpt.*What was saved before is untouched"):
        AtomicCheckpointIO().save_checkpoint({}, path)
    assert read_checkpoint(path)["state_dict"].keys() == {"a"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot write"):
        save(tmp_path / "file" / "a.ckpt")


@pytest.mark.parametrize("keep", [0, 1, 100, 3000, -1])
def test_truncation_is_found_out(tmp_path, keep):
    path = save(tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ZooError, match="truncated or damaged"):
        read_checkpoint(path)


def test_a_flipped_bit_in_a_tensor_is_found_out(tmp_path):
    path = save(tmp_path / "a.ckpt")
    content = bytearray(path.read_bytes())
    content[content.find(torch.arange(1000.0).numpy().tobytes()) + 2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ZooError, match="truncated or damaged"):
        read_checkpoint(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": Evil(), "config": {}}, tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Evil()))
    for name, reason in {
        "a.ckpt": r"holds '.*io\.open', which is no data: .* Nothing",
        "b.ckpt": "can hold code",
    }.items():
        with pytest.raises(ZooError, match=reason) as caught:
            read_checkpoint(tmp_path / name)
        assert "damaged" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_missing_file(tmp_path):
    with pytest.raises(ZooError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_the_newest_that_can_be_read(tmp_path, caplog):
    assert newest_checkpoint(tmp_path) is None
    for step in (900, 1000, 20000):
        save(tmp_path / f"step-{step:08d}.ckpt")
    assert newest_checkpoint(tmp_path).name == "step-00020000.ckpt"
    (tmp_path / "step-00020000.ckpt").write_bytes(b"")
    assert newest_checkpoint(tmp_path).name == "step-00001000.ckpt"


def test_nothing_is_saved_while_gradients_are_accumulated(tmp_path):
    """Not even at the first batch of a resumed run, at a step that was saved before it was stopped."""
    saved = []
    trainer = SimpleNamespace(global_step=4, world_size=1, is_last_batch=False, is_global_zero=True)
    trainer.save_checkpoint = lambda path: saved.append(trainer.global_step)
    checkpoints = ResumeCheckpoints(tmp_path, every_n_steps=4)
    before = signal.getsignal(signal.SIGTERM)
    try:
        checkpoints.on_train_start(trainer, None)
    finally:
        signal.signal(signal.SIGTERM, before)
    for batch, step in enumerate([4, 5, 5, 6, 6, 7, 7, 8, 8, 9]):
        trainer.global_step = step
        checkpoints.on_train_batch_end(trainer, None, None, None, batch)
    assert saved == [8]
