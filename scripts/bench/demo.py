"""Twenty people at once: the playground under load, on this machine alone.

    python scripts/bench/demo.py
    python scripts/bench/demo.py sessions=20 seconds=60 every=2

Starts the page, opens sessions, and in each moves the slider of the temperature every two seconds, at another time than
the others. Prints how long the answers took and what the server's memory did. The status is 1 if the median is a second
or more, the memory grows by 5% or more from a quarter of the time to its end, or an answer is another session's.
"""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

HERE = "127.0.0.1"
MEDIAN, GROWTH = 1.0, 1.05


@contextmanager
def server(*options: str) -> Iterator[tuple[str, int]]:
    """The playground in a process of its own: its address and the number of the process."""
    command = [sys.executable, "-m", "zoo", "demo", "port=0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
            assert found, "the playground did not start"
            yield found[0], process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def resident(pid: int) -> float:
    """Megabytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1000  # type: ignore[index]


class Session:
    """What a browser does: a stream of answers, and calls by the number of the function.

    Args:
        client: of HTTP.
        config: of the page, as the server gives it.
    """

    def __init__(self, client: httpx.AsyncClient, config: dict[str, Any]) -> None:
        self.client, self.config, self.name = client, config, uuid.uuid4().hex[:12]

    def function(self, element: str, event: str) -> dict[str, Any]:
        """What the page calls on an event of the component with an ``elem_id``."""
        number = next(c["id"] for c in self.config["components"] if c["props"].get("elem_id") == element)
        return next(d for d in self.config["dependencies"] if [number, event] in [list(t) for t in d["targets"]])

    def values(self, function: dict[str, Any]) -> list[Any]:
        """Of its inputs, as they are at first."""
        props = {c["id"]: c["props"].get("value") for c in self.config["components"]}
        return [props.get(i) for i in function["inputs"]]

    def place(self, function: dict[str, Any], element: str) -> int:
        """Of a component among the inputs."""
        number = next(c["id"] for c in self.config["components"] if c["props"].get("elem_id") == element)
        return function["inputs"].index(number)

    async def call(self, function: dict[str, Any], data: list[Any]) -> Any:
        """The outputs.

        Raises:
            RuntimeError: if the server says that it failed.
        """
        body = {"data": data, "fn_index": function["id"], "session_hash": self.name, "trigger_id": None}
        if not function["queue"]:
            answer = await self.client.post("/gradio_api/run/predict", json=body)
            if answer.status_code != 200:
                raise RuntimeError(answer.text[:300])
            return answer.json()["data"]
        joined = await self.client.post("/gradio_api/queue/join", json=body)
        joined.raise_for_status()
        event = joined.json()["event_id"]
        stream = self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.name})
        async with stream as lines:
            async for line in lines.aiter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("event_id") == event and message["msg"] == "process_completed":
                    if not message["success"]:
                        raise RuntimeError(str(message["output"])[:300])
                    return message["output"]["data"]
        raise RuntimeError("the stream ended without an answer")


async def person(
    client: httpx.AsyncClient, config: dict[str, Any], who: int, seconds: float, every: float
) -> list[float]:
    """Move the slider; the seconds that each answer took."""
    session = Session(client, config)
    move = session.function("tau", "input")
    data, tau, took = session.values(move), session.place(move, "tau"), []
    await asyncio.sleep(every * who / 20)
    end = time.perf_counter() + seconds
    step = 0
    while time.perf_counter() < end:
        value = round(0.05 + 0.01 * ((37 * who + 11 * step) % 490), 2)
        data[tau] = value
        began = time.perf_counter()
        (html,) = await session.call(move, data)
        took.append(time.perf_counter() - began)
        assert f"Mean gradient at tau {value:g}." in html, f"session {who} asked for tau {value} and got another answer"
        step += 1
        await asyncio.sleep(max(0.0, every - took[-1]))
    return took


async def load(address: str, pid: int, sessions: int, seconds: float, every: float) -> bool:
    limits = httpx.Limits(max_connections=4 * sessions)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits, trust_env=False) as client:
        config = (await client.get("/config")).json()
        await person(client, config, 0, 1.0, 0.2)  # what the first calls alone cost
        people = [asyncio.create_task(person(client, config, i, seconds, every)) for i in range(sessions)]
        await asyncio.sleep(seconds / 4)
        before = resident(pid)
        took = sorted(second for one in await asyncio.gather(*people) for second in one)
        after = resident(pid)
    median, late = statistics.median(took), took[int(0.95 * len(took))]
    print(
        f"{len(took)} answers to {sessions} sessions: median {median:.3f} s, 95% {late:.3f} s, slowest {took[-1]:.3f} s"
    )
    print(f"memory of the server: {before:.0f} MB after a quarter of the time, {after:.0f} MB at the end")
    return median < MEDIAN and after < GROWTH * before


def main(*, sessions: int = 20, seconds: float = 60.0, every: float = 2.0) -> int:
    with server() as (address, pid):
        return 0 if asyncio.run(load(address, pid, sessions, seconds, every)) else 1


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    kinds = {"sessions": int, "seconds": float, "every": float}
    sys.exit(main(**{name: kinds[name](value) for name, value in given.items()}))  # type: ignore[arg-type]
