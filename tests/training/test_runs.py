"""What may differ when a run goes on."""

import pytest

from zoo.errors import ZooError
from zoo.training.runs import RunFolder

ENCODER = {"_target_": "zoo.models.cat_vae.MLPEncoder", "latents": 2, "categories": 3}


def test_a_run_older_than_an_option_goes_on_with_its_default(tmp_path):
    with RunFolder(tmp_path / "run") as run:
        run.claim({"model": {"encoder": ENCODER}}, "command")
        run.claim({"model": {"encoder": ENCODER | {"activation": "silu"}}}, "command")
        with pytest.raises(ZooError, match=r"model\.encoder\.activation was 'silu', now 'relu'"):
            run.claim({"model": {"encoder": ENCODER | {"activation": "relu"}}}, "command")
