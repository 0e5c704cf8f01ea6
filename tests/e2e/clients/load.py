"""Asks a model for some seconds or until SIGTERM, and prints the answers by HTTP status as JSON.

`load.py ADDRESS MODEL COLUMNS SECONDS CLIENTS PAUSE`
With a pause, each client takes so many seconds to send a request, as on a slow line: so a load of many requests under way at a
time costs no processors, of which a test's node has few.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp


async def main(address: str, model: str, columns: int, seconds: float, clients: int, pause: float) -> None:
    features = {"name": "features", "shape": [1, columns], "datatype": "FP64", "data": [1.0] * columns}
    body = json.dumps({"inputs": [features]}).encode()
    end = time.monotonic() + seconds

    def stop() -> None:
        nonlocal end
        end = 0

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    answers: Counter[str] = Counter()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:1]
        await asyncio.sleep(pause)
        yield body[1:]

    async def client(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < end:
            try:
                async with session.post(f"http://{address}/v2/models/{model}/infer", data=slowly() if pause else body) as answer:
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


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6])))
