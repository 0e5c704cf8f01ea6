"""What goes on with a text: a decoder, token by token."""

import threading
from collections.abc import Mapping, Sequence

import torch

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.models.architecture import Pretrained, Transformer
from eagleray_runtime.models.torch_network import torch_network

COLDEST = 1e-300
"""A temperature below comes to the same, but its reciprocal, by which a GPU multiplies, is infinite."""


class TorchWriter:
    """Computes in float32, on the GPU where there is one."""

    def __init__(self, architecture: Transformer | Pretrained, parameters: Mapping[str, AnyArray], ends: Sequence[int]) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokens, self._ends = architecture.tokens, ends
        self._network = torch_network(architecture)
        self._network.set_parameters(parameters)
        self._network.to(self.device).eval()

    def __call__(self, text: Sequence[int], most: int, temperature: float, seed: int, gone: threading.Event) -> list[int]:
        """At most so many tokens after those of a text, up to its end, and no more once `gone` is set.

        Temperature 0 takes the likeliest token each time; above, one is drawn by softmax(logits / temperature) and the seed.
        When there are as many tokens as the model sees at a time, the earlier half is forgotten.
        """
        random = torch.Generator().manual_seed(seed)
        tokens = [self._ends[0], *text][-self._tokens :]
        written: list[int] = []
        ahead, seen = tokens, None
        with torch.inference_mode():
            while len(written) < most and not gone.is_set():
                logits, seen = self._network.next(torch.tensor([ahead], device=self.device), seen)
                if temperature:
                    token = int(torch.multinomial(_shares(logits[0], temperature), 1, generator=random))
                else:
                    token = int(logits[0].argmax())
                if token in self._ends:
                    break
                written.append(token)
                tokens.append(token)
                ahead = [token]
                if len(tokens) > self._tokens:
                    tokens = tokens[-max(1, self._tokens // 2) :]
                    ahead, seen = tokens, None
        return written


def _shares(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """The probability of each token, float64 on the CPU: softmax(logits / temperature)."""
    # Without its largest, for a quotient that is infinite has no softmax.
    below = logits.double() - logits.max()
    return torch.softmax(below / max(temperature, COLDEST), dim=0).cpu()
