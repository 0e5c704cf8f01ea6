"""Asks a Prometheus: `prometheus.py ADDRESS` reads expressions as a JSON list and prints the answers as one."""

import json
import sys
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen


def ask(expression: str) -> object:
    try:
        with urlopen(f"http://{sys.argv[1]}/api/v1/query?{urlencode({'query': expression})}", timeout=10) as answer:
            return json.load(answer)
    except HTTPError as error:
        return json.load(error)


print(json.dumps([ask(expression) for expression in json.load(sys.stdin)]))
