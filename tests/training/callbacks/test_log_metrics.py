"""What steps return is logged as often as it was asked for; a loss that is not a number ends the run."""

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from zoo.errors import ZooError
from zoo.training.callbacks import LogMetrics
from zoo.training.loggers import CSVLogger, read_metrics
from zoo.training.train import explain


class Line(LightningModule):
    """Fits a line through points ``(batch, 3)``; in batch number ``bad`` they are not numbers."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.layer, self.bad = nn.Linear(2, 1), bad

    def training_step(self, x, batch_idx):
        if self.global_step == self.bad:
            x = x * torch.nan
        return {"loss": (self.layer(x[:, :2]) - x[:, 2:]).square().mean()}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def quiet(**options) -> Trainer:
    return Trainer(
        **options,
        callbacks=[LogMetrics()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "bad, message",  # the index of the batch; what is looked at is that of the eighth batches
    [
        (12, r"loss is not finite, but nan, at step 13 \(epoch 1, batch 4\)"),
        (15, r"loss is not finite, but nan, at step 16 \(epoch 1, batch 7\)"),
    ],
)
def test_the_first_batch_with_such_a_loss_is_named(bad, message):
    trainer = quiet(max_epochs=2, log_every_n_steps=8, logger=False)
    with pytest.raises(ZooError, match=message + r"\. The last good checkpoint is none yet"):
        trainer.fit(Line(bad), DataLoader(torch.randn(16, 3), batch_size=2))
    assert trainer.global_step == 16


class Indexing(Line):
    """In validation it looks something up by what it has learned."""

    def validation_step(self, x, batch_idx):
        torch.zeros(3)[self.layer.weight.sum().clamp(0, 2).long()]


@pytest.mark.filterwarnings("ignore")
def test_it_is_looked_at_before_a_validation():
    points, trainer = (
        DataLoader(torch.randn(16, 3), batch_size=2),
        quiet(max_epochs=1, log_every_n_steps=50, logger=False),
    )
    with pytest.raises(ZooError, match=r"loss is not finite, but nan, at step 6 \(epoch 0, batch 5\)"):
        trainer.fit(Indexing(5), points, points)
    trainer.validate(Indexing(-1), points, verbose=False)  # another model, and no training
    trainer.fit(Indexing(-1), points, points)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bad", [5, -1])
def test_an_error_that_comes_of_it_is_explained(bad):
    model, trainer = Line(bad), quiet(max_epochs=1, log_every_n_steps=50, logger=False)
    model.layer.register_forward_hook(lambda *_: torch.zeros(3)[1 << 62] if model.global_step == 6 else None)
    with pytest.raises(IndexError) as failed:
        trainer.fit(model, DataLoader(torch.randn(16, 3), batch_size=2))
    if bad < 0:
        explain(failed.value, trainer, model)
        return
    with pytest.raises(ZooError, match=r"loss is not finite, but nan, at step 6 \(epoch 0, batch 5\)") as explained:
        explain(failed.value, trainer, model)
    assert explained.value.__cause__ is failed.value


class Several(Line):
    """Three steps of the optimiser in a batch."""

    def __init__(self) -> None:
        super().__init__(bad=-1)
        self.automatic_optimization = False

    def training_step(self, x, batch_idx):
        for _ in range(3):
            values = super().training_step(x, batch_idx)
            self.manual_backward(values["loss"])
            self.optimizers().step()
        return values


@pytest.mark.filterwarnings("ignore")
def test_a_batch_of_several_steps_is_logged_where_they_pass_the_interval(tmp_path):
    logger = CSVLogger(tmp_path / "metrics.csv")
    trainer = quiet(max_epochs=1, log_every_n_steps=4, logger=logger)
    trainer.fit(Several(), DataLoader(torch.randn(16, 3), batch_size=2))  # after 3, 6 ... 24 steps
    assert [step for step, _ in read_metrics(logger.path)["train/loss"]] == [6, 9, 12, 18, 21, 24]
