"""Checkpoints: whole or not at all, and never code."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from zoo import signals
from zoo.errors import ZooError
from zoo.hub.files import read_checkpoint
from zoo.training.checkpointing import AtomicCheckpointIO, ResumeCheckpoints, newest_checkpoint, resume_checkpoints

GOOD = {"state_dict": {"a": torch.arange(1000.0)}, "config": {}}


TO_GO_ON = {
    **{"loops": {}, "callbacks": {}, "optimizer_states": [], "lr_schedulers": [], "epoch": 0, "global_step": 1},
    "pytorch-lightning_version": "2.6",
}


def save(path):
    AtomicCheckpointIO().save_checkpoint(GOOD | TO_GO_ON, path)
    return path


def test_round_trip(tmp_path):
    assert torch.equal(read_checkpoint(save(tmp_path / "deep/a.ckpt"))["state_dict"]["a"], torch.arange(1000.0))


@pytest.mark.parametrize(
    "error, why", [(OSError(28, "No space left on device"), "the disk is full"), (RuntimeError(), "PyTorch cannot")]
)
def test_a_write_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch, error, why):
    path = save(tmp_path / "a.ckpt")

    def half(_, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(ZooError, match=rf"cannot write .*a\.ckpt: {why}.*What was saved before is untouched"):
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
        "a.ckpt": r"holds '.*io\.open', which is not data: .* Nothing",
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
    for part in TO_GO_ON:  # what was altered is no better than what is damaged
        torch.save((GOOD | TO_GO_ON) | {part: None}, tmp_path / "step-00001000.ckpt")
        assert newest_checkpoint(tmp_path).name == "step-00000900.ckpt" and f"lacks {part}" in caplog.text
    (tmp_path / "step-00030000.ckpt").mkdir()
    assert newest_checkpoint(tmp_path).name == "step-00000900.ckpt"


def test_steps_are_in_order_beyond_eight_digits(tmp_path):
    for step in (99_999_999, 100_000_000, 1_000_000_000):
        save(tmp_path / f"step-{step:08d}.ckpt")
    (tmp_path / "step-00000001 (copy).ckpt").touch()
    names = [path.name for path in resume_checkpoints(tmp_path)]
    assert names == ["step-1000000000.ckpt", "step-100000000.ckpt", "step-99999999.ckpt"]


def test_only_damaged_ones_are_no_beginning(tmp_path):
    for step in (900, 1000):
        (tmp_path / f"step-{step:08d}.ckpt").write_bytes(b"half")
    with pytest.raises(
        ZooError, match=r"no checkpoint of .* can be read: step-00001000.ckpt, step-00000900.ckpt\. Put"
    ):
        newest_checkpoint(tmp_path)


def test_nothing_is_saved_while_gradients_are_accumulated(tmp_path):
    """Not even at the first batch of a resumed run, at a step that was saved before it was stopped."""
    assert saved_of(tmp_path, [4, 5, 5, 6, 6, 7, 7, 8, 8, 9]) == [8]


def test_what_is_due_before_a_validation_is_saved_after_it(tmp_path):
    assert saved_of(tmp_path, [4, 5, 6, 7, 8, 9, 10], validated=(8,)) == [9]


def saved_of(folder, steps, validated=()):
    """The steps that are saved, of batches that end at ``steps``."""
    saved = []
    loop = SimpleNamespace(_should_check_val_fx=lambda _: trainer.global_step in validated)
    trainer = SimpleNamespace(global_step=steps[0], world_size=1, is_last_batch=False, is_global_zero=True)
    trainer.fit_loop = SimpleNamespace(epoch_loop=loop, _data_fetcher=None)
    trainer.save_checkpoint = lambda path: saved.append(trainer.global_step)
    checkpoints = ResumeCheckpoints(folder, every_n_steps=4)
    checkpoints.on_train_start(trainer, None)
    try:
        for batch, step in enumerate(steps):
            trainer.global_step = step
            checkpoints.on_train_batch_end(trainer, None, None, None, batch)
    finally:
        signals.allow()
    return saved
