"""Asks a model for some seconds: `load.py ADDRESS MODEL COLUMNS ROWS SECONDS CLIENTS` prints the answers by HTTP status as JSON."""

import asyncio
import json
import sys
import time
from collections import Counter

import aiohttp


async def main(address: str, model: str, columns: int, rows: int, seconds: float, clients: int) -> None:
    features = {"name": "features", "shape": [rows, columns], "datatype": "FP64", "data": [1.0] * (rows * columns)}
    body = json.dumps({"inputs": [features]})
    end = time.monotonic() + seconds
    answers: Counter[str] = Counter()

    async def client(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < end:
            try:
                async with session.post(f"http://{address}/v2/models/{model}/infer", data=body) as answer:
                    await answer.read()
                    answers[str(answer.status)] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                answers[type(error).__name__] += 1
                await asyncio.sleep(0.1)

    # A new connection for each request: a kept one stays on the pod that it began with, whatever pods come.
    connector = aiohttp.TCPConnector(force_close=True)
    headers = {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    print(json.dumps(answers))


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6])))
