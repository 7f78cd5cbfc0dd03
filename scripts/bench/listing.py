"""Seconds to list the models in a fresh process, beside a process that does nothing.

python scripts/bench/listing.py
"""

import statistics
import subprocess
import sys
import time

COMMANDS = {"list_models": "import zoo; zoo.list_models(); zoo.list_models(pretrained=True)", "nothing": "pass"}


def main() -> None:
    for name, code in COMMANDS.items():
        seconds = []
        for _ in range(10):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds.append(time.perf_counter() - start)
        print(f"{name:<12} {statistics.median(seconds):.3f} s")


if __name__ == "__main__":
    main()
