"""Transformers in torch: an encoder that tells what a text is, a decoder that goes on with it."""

from functools import partial
from typing import TypeAlias

import torch
from torch.nn import functional

from eagleray_runtime.arrays import PADDING
from eagleray_runtime.contract.blocks import PositionalEncoding, TextPooling
from eagleray_runtime.models.architecture import Transformer
from eagleray_runtime.models.torch_module import ACTIVATIONS, TorchNetwork

LONGEST_WAVE = 10_000.0
"""Of the sinusoidal encoding, in tokens over 2 pi (Vaswani et al. 2017, section 3.5)."""

Seen: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of the tokens that a layer has seen, each [rows, heads, tokens, numbers]."""


class Attention(torch.nn.Module):  # type: ignore[misc]
    """Scaled dot-product attention of several heads (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, architecture: Transformer, dtype: torch.dtype) -> None:
        super().__init__()
        size = architecture.size
        self.queries_keys_values = torch.nn.Linear(size, 3 * size, dtype=dtype)
        self.output = torch.nn.Linear(size, size, dtype=dtype)
        self._heads, self._dropout = architecture.heads, architecture.dropout
        self._is_causal = architecture.pooling is None

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, seen: Seen | None) -> tuple[torch.Tensor, Seen]:
        """What each token of `x` [rows, tokens, size] finds, and what has been seen then.

        `mask` [rows, 1, 1, tokens] says which tokens may be looked at, None all. After what is `seen` already comes one token.
        """
        queries, keys, values = self.queries_keys_values(x).unflatten(2, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        if seen is not None:
            keys, values = torch.cat([seen[0], keys], dim=2), torch.cat([seen[1], values], dim=2)
        found = functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            dropout_p=self._dropout if self.training else 0.0,
            is_causal=self._is_causal and seen is None,
        )
        return self.output(found.transpose(1, 2).flatten(2)), (keys, values)


class Layer(torch.nn.Module):  # type: ignore[misc]
    """Attention, then two dense layers, each normalised before and added to what came in (Xiong et al. 2020, figure 1 b)."""

    def __init__(self, architecture: Transformer, dtype: torch.dtype) -> None:
        super().__init__()
        size, wide = architecture.size, architecture.feed_forward
        self.before_attention = torch.nn.LayerNorm(size, dtype=dtype)
        self.attention = Attention(architecture, dtype)
        self.before_dense = torch.nn.LayerNorm(size, dtype=dtype)
        self.wide = torch.nn.Linear(size, wide, dtype=dtype)
        self.narrow = torch.nn.Linear(wide, size, dtype=dtype)
        self._activate, self._dropout = ACTIVATIONS[architecture.activation], architecture.dropout

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, seen: Seen | None) -> tuple[torch.Tensor, Seen]:
        """`x` [rows, tokens, size] further on; the other arguments, and what is seen then, as of `Attention`."""
        found, seen = self.attention(self.before_attention(x), mask, seen)
        x = x + functional.dropout(found, self._dropout, self.training)
        found = self.narrow(self._activate(self.wide(self.before_dense(x))))
        return x + functional.dropout(found, self._dropout, self.training), seen


class TransformerNetwork(TorchNetwork):
    """What encoder and decoder share: from tokens to numbers that stand for them."""

    def __init__(self, architecture: Transformer, dtype: torch.dtype) -> None:
        super().__init__(architecture)
        self.embedding = torch.nn.Embedding(architecture.vocabulary, architecture.size, dtype=dtype)
        if architecture.positions is PositionalEncoding.LEARNED:
            self.positions = torch.nn.Embedding(architecture.tokens, architecture.size, dtype=dtype)
        else:
            # Not a part of the state: it follows from the architecture.
            self.register_buffer("waves", _waves(architecture.tokens, architecture.size).to(dtype), persistent=False)
        self.layers = torch.nn.ModuleList(Layer(architecture, dtype) for _ in range(architecture.layers))
        self.normalization = torch.nn.LayerNorm(architecture.size, dtype=dtype)
        self._learns_positions = architecture.positions is PositionalEncoding.LEARNED
        # As much as a row of unit length lacks to numbers of deviation 1 (Vaswani et al. 2017, section 3.4).
        self._scale = architecture.size**0.5
        self._dropout = architecture.dropout

    def hidden(
        self, tokens: torch.Tensor, mask: torch.Tensor | None = None, seen: list[Seen] | None = None
    ) -> tuple[torch.Tensor, list[Seen]]:
        """Numbers [rows, tokens, size] of tokens [rows, tokens] that come after those seen, and what each layer has seen then."""
        start = seen[0][0].shape[2] if seen else 0
        places = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        where = self._scale * self.positions(places) if self._learns_positions else self.waves[places]
        x = functional.dropout(self._scale * self.embedding(tokens.clamp(min=0)) + where, self._dropout, self.training)
        kept: list[Seen] = []
        for number, layer in enumerate(self.layers):
            if self.recomputes and self.training:
                x = self._layer(partial(_further, layer, mask), x)
                continue
            x, has_seen = layer(x, mask, seen[number] if seen else None)
            kept.append(has_seen)
        return self.normalization(x), kept


class Encoder(TransformerNetwork):
    """Sees a whole text."""

    def __init__(self, architecture: Transformer, dtype: torch.dtype) -> None:
        super().__init__(architecture, dtype)
        self.output = torch.nn.Linear(architecture.size, architecture.outputs, dtype=dtype)
        self._pooling = architecture.pooling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs before the head of texts `x`, tokens [rows, up to the architecture's], of which the first is no padding."""
        # What is padding in every row need not be computed.
        x = x[:, : max(1, int((x != PADDING).any(dim=0).sum()))]
        mask = x != PADDING
        hidden, _ = self.hidden(x, mask[:, None, None, :])
        if self._pooling is TextPooling.FIRST:
            return self.output(hidden[:, 0])
        counted = mask[:, :, None]
        return self.output((hidden * counted).sum(dim=1) / counted.sum(dim=1))


class Decoder(TransformerNetwork):
    """Sees, for each token, those before it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logarithms of the probabilities [rows, tokens - 1] that each token of `x` [rows, tokens] but the first had."""
        hidden, _ = self.hidden(x[:, :-1])
        logits, foreseen = self._logits(hidden), x[:, 1:].long()
        # Padding stands after the text: nothing looks at it, and it is not to be foreseen.
        losses = functional.cross_entropy(logits.flatten(0, 1), foreseen.flatten(), ignore_index=PADDING, reduction="none")
        return -losses.unflatten(0, foreseen.shape)

    def next(self, x: torch.Tensor, seen: list[Seen] | None) -> tuple[torch.Tensor, list[Seen]]:
        """Logits [rows, vocabulary] of the token after `x` [rows, tokens], which come after those seen; and what is seen then."""
        hidden, kept = self.hidden(x, seen=seen)
        return self._logits(hidden[:, -1]), kept

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return functional.linear(hidden, self.embedding.weight)


def _further(layer: Layer, mask: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    """What a layer says to `x` alone."""
    found: torch.Tensor = layer(x, mask, None)[0]
    return found


def _waves(tokens: int, size: int) -> torch.Tensor:
    """The sinusoidal encoding, float64 [tokens, size]: sine and cosine in turn, of waves that grow longer."""
    numbers = torch.arange(size)
    speeds = LONGEST_WAVE ** -((2 * (numbers // 2)).double() / size)
    angles = torch.arange(tokens)[:, None] * speeds
    return torch.where(numbers % 2 == 0, angles.sin(), angles.cos())
