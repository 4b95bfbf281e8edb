"""A server under load: errors, wrong answers, memory, hostile clients, and the throughput of a plain handler beside it.

    python tests/benchmarks/serve_load.py RUN [--requests 10000] [--hostile 1000] [--concurrency 32]

RUN is a text classifier. The plain server is a FastAPI handler that calls tokenizer and model for each request.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
from served import Served, same, serving

WORDS = [
    "the", "a", "fine", "dull", "film", "plot", "actor", "scene", "music", "harbour", "ship", "story", "moves",
    "slowly", "well", "never", "again", "with", "of", "and",
]  # fmt: skip

PLAIN = """
import sys, uvicorn, torch, finetune
from fastapi import FastAPI
model = finetune.load(sys.argv[1]); net, tokenizer = model.model.eval(), model.tokenizer
names = model.plan.preprocessor.labels; longest = model.plan.preprocessor.max_length
column = model.plan.preprocessor.needs().required[0]
app = FastAPI()
@app.get("/health")
def health(): return {"status": "ok"}
@app.post("/predict")
def predict(row: dict[str, str]):
    with torch.inference_mode():
        inputs = tokenizer(row[column], truncation=True, max_length=longest, return_tensors="pt")
        shares = net(**inputs).logits.softmax(-1)[0].tolist()
    best = max(range(len(shares)), key=shares.__getitem__)
    return {"prediction": names[best], "probabilities": dict(zip(names, shares))}
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


@dataclass
class Measured:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    took: float = 0.0
    cpu: float = 0.0
    """CPU seconds of the server: unlike the time, they do not depend on what else the machine does."""

    def percentile(self, share: float) -> float:
        """Return a percentile of the latencies, in milliseconds."""
        return 1000 * sorted(self.seconds)[min(int(share * len(self.seconds)), len(self.seconds) - 1)]


def texts(count: int, seed: int) -> list[str]:
    """Return different texts of 3 to 60 words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 60))) for _ in range(count)]


def ask(connection: http.client.HTTPConnection, row: Any) -> tuple[int, Any]:
    connection.request("POST", "/predict", json.dumps(row), {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def load(served: Served, rows: list[str], expected: list[Any] | None, *, requests: int, concurrency: int) -> Measured:
    """Send requests of one row from several threads, and compare the answers."""
    found, lock, port = Measured(), threading.Lock(), served.port
    times = psutil.Process(served.process.pid).cpu_times()
    numbers = iter(range(requests))

    def client(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                connection.close()
                return
            place = number % len(rows)
            started = time.perf_counter()
            status, answer = ask(connection, {"text": rows[place]})
            took = time.perf_counter() - started
            answer.pop("tokens_lost", None)
            is_wrong = expected is not None and not same(answer, expected[place])
            with lock:
                found.seconds.append(took)
                found.statuses[status] += 1
                found.wrong += is_wrong

    started = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        list(pool.map(client, range(concurrency)))
    found.took = time.perf_counter() - started
    after = psutil.Process(served.process.pid).cpu_times()
    found.cpu = after.user + after.system - times.user - times.system
    return found


def huge(port: int) -> int:
    """Send 20 MB, and read the answer while sending, as curl does."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
        status = int(client.recv(4096).split()[1])
        client.sendall(b"x" * (1 << 20))
        return status


def body(content: bytes) -> Callable[[int], int]:
    def send(port: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/predict", content)
        status = connection.getresponse().status
        connection.close()
        return status

    return send


def slow(port: int) -> int:
    """Announce a body, send a byte, and go away: there is no answer to wait for."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    threading.Timer(2, client.close).start()
    return 0


HOSTILE: dict[str, Callable[[int], int]] = {
    "20 MB": huge,
    "broken JSON": body(b'{"text": "a'),
    "wrong type": body(b'["a"]'),
    "long text": body(json.dumps({"text": "a" * 150_000}).encode()),
    "slow client": slow,
}


def attack(port: int, count: int, until: threading.Event) -> dict[str, list[tuple[int, float]]]:
    """Send hostile requests of each kind in turn while the good ones run."""
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in HOSTILE}
    names = list(HOSTILE)
    for number in range(count):
        if until.is_set():
            break
        name = names[number % len(names)]
        started = time.perf_counter()
        status = HOSTILE[name](port)
        found[name].append((status, time.perf_counter() - started))
        time.sleep(0.01)
    return found


@contextmanager
def plain(run: Path) -> Iterator[Served]:
    """Serve a run with a plain handler."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", PLAIN, str(run), str(port)], text=True)
    try:
        served = Served(process, port)
        while True:
            try:
                served.ask("/health")
                break
            except OSError:
                time.sleep(0.2)
        yield served
    finally:
        process.kill()
        process.wait()


def memory(served: Served) -> float:
    """Return the memory of a server, in MiB."""
    return float(psutil.Process(served.process.pid).memory_info().rss / (1 << 20))


def shown(name: str, found: Measured) -> None:
    rate, cpu = len(found.seconds) / found.took, 1000 * found.cpu / len(found.seconds)
    middle, late = 1000 * statistics.median(found.seconds), found.percentile(0.99)
    print(
        f"{name}: {len(found.seconds):,} requests, {rate:.0f}/s, p50 {middle:.0f} ms, p99 {late:.0f} ms, "
        f"{cpu:.1f} CPU ms each, statuses {dict(found.statuses)}, wrong {found.wrong}",
        flush=True,
    )


def main() -> None:
    """Measure, and print a line for each part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--hostile", type=int, default=1_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--compared", type=int, default=1_000, help="requests to each of the two servers")
    chosen = parser.parse_args()
    import finetune

    rows = texts(500, seed=1)
    model = finetune.load(chosen.run)
    expected = model.predict(rows)
    del model
    many = {"concurrency": chosen.concurrency}
    with plain(chosen.run) as other, serving(chosen.run) as served:
        for number in (1, 2):  # in turn, because other processes of the machine change the speed
            for name, each in (("plain handler", other), ("finetune serve", served)):
                shown(f"{name}, round {number}", load(each, rows, None, requests=chosen.compared, **many))
    with serving(chosen.run) as served:
        load(served, rows, expected, requests=300, **many)  # caches and buffers fill
        before = memory(served)
        calm = load(served, rows, expected, requests=chosen.requests, **many)
        shown("good requests", calm)
        after = memory(served)
        print(f"memory: {before:.0f} MiB before, {after:.0f} MiB after, {after / before - 1:+.1%}", flush=True)
        done = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            attacking = pool.submit(attack, served.port, chosen.hostile, done)
            mixed = Measured()
            while not attacking.done():
                part = load(served, rows, expected, requests=200, **many)
                mixed.seconds += part.seconds
                mixed.statuses += part.statuses
                mixed.wrong += part.wrong
                mixed.took += part.took
                mixed.cpu += part.cpu
            shown("good requests, hostile ones between", mixed)
            for name, answers in attacking.result().items():
                times = sorted(1000 * seconds for _, seconds in answers)
                statuses = dict(Counter(status for status, _ in answers))
                middle, late = times[len(times) // 2], times[int(0.99 * (len(times) - 1))]
                print(
                    f"  {name}: {len(answers)}, statuses {statuses}, p50 {middle:.0f} ms, p99 {late:.0f} ms", flush=True
                )
        print(f"p99 of good requests: {mixed.percentile(0.99) / calm.percentile(0.99):.2f} times", flush=True)
        print(f"exit status: {served.stop()}", flush=True)


if __name__ == "__main__":
    main()
