"""The bars problem (Földiák 1990): each row and each column of a small picture is white with some probability."""

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset


class Bars(LightningDataModule):
    """Pictures of bars, ``(batch, 1, size, size)`` in {0, 1}, with the number of bars in each.

    Args:
        size: of a side.
        rate: with which probability a row or a column is white.
        count: training pictures.
        batch_size: of training.
        seed: of the training pictures.
    """

    def __init__(
        self, *, size: int = 8, rate: float = 0.2, count: int = 2000, batch_size: int = 50, seed: int = 0
    ) -> None:
        super().__init__()
        if size < 2 or not 0 < rate < 1 or count < batch_size or batch_size < 1:
            raise ValueError("need size >= 2, rate in (0, 1) and count >= batch_size >= 1")
        self.size, self.rate, self.count, self.batch_size, self.seed = size, rate, count, batch_size, seed

    def pictures(self, count: int, seed: int) -> TensorDataset:
        g = torch.Generator().manual_seed(seed)
        bars = torch.rand(count, 2, self.size, generator=g) < self.rate
        images = (bars[:, 0, :, None] | bars[:, 1, None, :]).float().unsqueeze(1)
        return TensorDataset(images, bars.sum((1, 2)))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.pictures(self.count, 2 + self.seed), self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.pictures(500, 0), 100)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.pictures(500, 1), 100)
