"""Write a binary network to a small file, one bit per weight.

    zoo pack checkpoint=runs/mine
    zoo pack checkpoint=binary_net.mnist output=digits.packed

zoo.models.binary_net.packing.load reads it.
"""

from collections.abc import Sequence
from pathlib import Path

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import pretrained, tell, written
from zoo.errors import ZooError

ARCHS = ("binary_net",)


def pack(checkpoint: str, *, output: Path = Path("network.packed"), trust: Sequence[str] = ()) -> int:
    """Write the file, and say how large it is.

    Args:
        checkpoint: a binary net: a pretrained model, its folder, a run folder or a checkpoint file of one.
        output: the file.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.

    Returns:
        its bytes.

    Raises:
        ZooError: if the weights of the model are not choices, or ``output`` cannot be written.
    """
    from zoo.models.binary_net import BinaryNet, packing

    model = hub.read(checkpoint, trust, ARCHS).build()
    if not isinstance(model, BinaryNet):
        raise ZooError(f"{checkpoint} is a {type(model).__name__}: only a binary_net can be packed")
    content = packing.pack(model.network)
    with written(output) as path:
        path.write_bytes(content)
    real = 4 * model.real
    tell(f"{output}: {len(content) / 1000:.1f} kB; with real weights in float32 it would be {real / 1000:.1f} kB")
    return len(content)


main = command(pack, text=str(__doc__), notes=lambda: pretrained(*ARCHS))
