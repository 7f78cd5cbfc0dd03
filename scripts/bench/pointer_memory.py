"""Memory of the pointer network on the CPU: peak of the process above what it holds after a tiny instance.

    python scripts/bench/pointer_memory.py

Greedy decoding of one instance from one start, and one training step of each objective at several sizes. Each number
is of a fresh process, in MiB. Linux only.
"""

import resource
import subprocess
import sys
from pathlib import Path

DECODE, TRAIN = (1000, 4000), (50, 100)


def main() -> None:
    if len(sys.argv) > 1:
        return measure(sys.argv[1], int(sys.argv[2]))
    cases = [("greedy", size) for size in DECODE]
    cases += [(objective, size) for objective in ("self_label", "expectation") for size in TRAIN]
    print("| | elements | MiB |\n| --- | ---: | ---: |")
    for what, size in cases:
        command = [sys.executable, __file__, what, str(size)]
        print(f"| {what} | {size} | {subprocess.check_output(command, text=True).strip()} |", flush=True)
    return None


def measure(what: str, size: int) -> None:
    import torch

    from zoo.models.pointer_net import TSP, PointerDecoder, PointerNet, TransformerEncoder
    from zoo.relaxations import RLOO
    from zoo.training import AdamW

    torch.set_num_threads(1)
    model = PointerNet(
        task=TSP(),
        encoder=TransformerEncoder(features=2),
        decoder=PointerDecoder(),
        relaxation=RLOO(samples=2),
        optimizer=AdamW(),
        starts=8,
    ).train()

    def work(n: int) -> None:
        if what == "greedy":
            model.greedy(torch.rand(1, n, 2), starts=1)
        else:
            getattr(model, what)(torch.rand(8, n, 2))["loss"].backward()

    work(8)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024  # KiB, now
    work(size)
    print(round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


if __name__ == "__main__":
    main()
