"""A server under load: many clients of the API of OpenAI, each with questions of its own, to the offline models."""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import httpx

import raptor
from benchmarks import REPOSITORY, Options
from benchmarks._report import Claim, Item, Table

CLIENTS, DOCUMENTS = 200, 400
WARM_S = 30.0  # after which memory is read first
GROWTH, GROWTH_MB = 1.10, 40.0  # of the memory, from then on, that is no growth
_PATIENCE_S = 900.0
_PARTS = (
    ["bal", "cor", "dun", "fen", "gil", "hel", "kar", "lin"],
    ["a", "e", "i", "o", "u"],
    list("bcdfglmnrs"),
)


@dataclass(slots=True)
class Tally:
    """What clients saw: seconds of each answer, and how many were none, or another's."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    mixed_up: int = 0
    megabytes: list[float] = field(default_factory=list)


def measure(options: Options) -> Iterator[Item]:
    """Errors, answers that were mixed up, memory, and how long answers took."""
    index = options.work / "lighthouses.index"
    if not (index / "CURRENT").exists():
        _build(index)
    tally, took_s = load(index, options.work / "serve", CLIENTS, options.seconds)
    answers, (early, late) = len(tally.seconds), (tally.megabytes[0], tally.megabytes[-1])
    p50, p95 = statistics.median(tally.seconds), statistics.quantiles(tally.seconds, n=20)[-1]
    rows = [
        ("clients at once", f"{CLIENTS}"),
        ("seconds", f"{took_s:.0f}"),
        ("answers", f"{answers:,}"),
        ("answers a second", f"{answers / took_s:.1f}"),
        ("errors", f"{len(tally.errors):,}"),
        ("answers mixed up", f"{tally.mixed_up:,}"),
        ("p50 of an answer, s", f"{p50:.1f}"),
        ("p95 of an answer, s", f"{p95:.1f}"),
        (f"memory after {min(WARM_S, options.seconds / 2):.0f} s, MB", f"{early:.0f}"),
        ("memory at the end, MB", f"{late:.0f}"),
    ]
    note = (
        f"`rlm serve` over {DOCUMENTS} short documents. Every client asks again as soon as it has its answer, half of "
        "them as streams, by the loop with its sandbox; the clients run on the same cores. An answer waits for the "
        "turns of those before it: it takes about as long as there are clients by the answers a second. Memory is that "
        "of the server and of what it started."
    )
    yield Table("A server under load", ("measure", "figure"), tuple(rows), note)
    first = f", such as {tally.errors[0][:80]}" if tally.errors else ""
    yield Claim("", "no request fails", "0", f"{len(tally.errors)}{first}", holds=not tally.errors)
    yield Claim("", "no answer is another's", "0", f"{tally.mixed_up}", holds=tally.mixed_up == 0)
    most = GROWTH * early + GROWTH_MB
    yield Claim("", "memory does not grow", f"below {most:.0f} MB", f"{late:.0f} MB", holds=late < most)


def light(number: int) -> str:
    """A name that no other document holds, nor begins with."""
    start, middle, end = list(product(*_PARTS))[number]
    return f"{start}{middle}{end}oville".capitalize()


def sentence(number: int) -> str:
    """What the document with this number says."""
    return f"The lighthouse of {light(number)} is {100 + number} feet tall."


def _build(index: Path) -> None:
    index.parent.mkdir(parents=True, exist_ok=True)
    source = index.parent / "lighthouses"
    source.mkdir(exist_ok=True)
    for number in range(DOCUMENTS):
        (source / f"{light(number)}.txt").write_text(sentence(number), encoding="utf-8")
    raptor.build_index([source], index)


def load(index: Path, folder: Path, clients: int, seconds: float) -> tuple[Tally, float]:
    """Serve an index in a process of its own, and let clients ask it for so many seconds: (what they saw, seconds until
    the last had its answer)."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "rlm.cli",
        "serve",
        str(index),
        "--port",
        "0",
        "--data",
        str(folder),
        "-q",
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr
        try:
            url = server.stderr.readline().split()[-1]
            tally, began = Tally(), time.monotonic()
            asyncio.run(_load(url, server.pid, tally, clients, seconds))
            return tally, time.monotonic() - began
        finally:
            server.send_signal(signal.SIGTERM)


async def _load(url: str, pid: int, tally: Tally, clients: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=_PATIENCE_S, limits=limits) as client:
        asking = [asyncio.ensure_future(_client(client, number, tally, until)) for number in range(clients)]
        await asyncio.sleep(min(WARM_S, seconds / 2))
        tally.megabytes.append(memory_mb(pid))
        await asyncio.sleep(max(until - time.monotonic(), 0.0))
        tally.megabytes.append(memory_mb(pid))
        await asyncio.gather(*asking)


async def _client(client: httpx.AsyncClient, number: int, tally: Tally, until: float) -> None:
    """One client, who asks for one document after another, which at that time no other asks for."""
    step = 0
    while time.monotonic() < until:
        wanted = (number + step * CLIENTS) % DOCUMENTS
        began = time.monotonic()
        try:
            answer = await _answer(client, wanted, streams=(number + step) % 2 == 0)
        except (httpx.HTTPError, KeyError, ValueError) as e:
            tally.errors.append(f"{type(e).__name__}: {e}")
            await asyncio.sleep(1.0)
        else:
            tally.seconds.append(time.monotonic() - began)
            tally.mixed_up += sentence(wanted) not in answer
        step += 1


async def _answer(client: httpx.AsyncClient, wanted: int, *, streams: bool) -> str:
    question = {"role": "user", "content": f"How tall is the lighthouse of {light(wanted)}?"}
    body = {"model": "lighthouses", "messages": [question], "stream": streams}
    if not streams:
        reply = await client.post("v1/chat/completions", json=body)
        return str(reply.raise_for_status().json()["choices"][0]["message"]["content"])
    said = ""
    async with client.stream("POST", "v1/chat/completions", json=body) as stream:
        async for line in stream.raise_for_status().aiter_lines():
            if line.startswith("data: {"):
                said += json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content") or ""
    return said


def memory_mb(pid: int) -> float:
    """What a process and those that it started hold in memory, without what they share."""
    total = 0
    for process in (pid, *_children(pid)):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:  # a thread that has just ended
            continue
    return found
