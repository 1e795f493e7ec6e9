"""Lists the words that the miniature's text encoder knows, one token each, and the size of that encoder."""

import re

WORDS = (
    *("a", "an", "the", "of", "in", "on", "and", "with", "moving", "shape", "picture", "clip"),
    *("red", "orange", "yellow", "green", "blue", "purple"),
    *("circle", "square", "triangle", "star", "cross"),
    *("neon", "paper", "outline", "glowing", "dark", "light", "background"),
)
TOKENS = {token: number for number, token in enumerate(("<start>", "<end>", "<unknown>", *WORDS))}

TEXT_ENCODER = {  # in the terms of ComfyUI's sd1_clip_config.json
    "vocab_size": len(TOKENS),
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-05,
    "projection_dim": 64,
    "bos_token_id": TOKENS["<start>"],
    "eos_token_id": TOKENS["<end>"],
    "pad_token_id": TOKENS["<end>"],
}


class WordTokenizer:
    """The part of a transformers tokenizer that ComfyUI's SDTokenizer uses."""

    @classmethod
    def from_pretrained(cls, path: str) -> "WordTokenizer":
        return cls()

    def __call__(self, text: str) -> dict[str, list[int]]:
        words = re.findall(r"[a-z]+", text.lower())
        ids = [TOKENS.get(word, TOKENS["<unknown>"]) for word in words]
        return {"input_ids": [TOKENS["<start>"], *ids, TOKENS["<end>"]]}

    def get_vocab(self) -> dict[str, int]:
        return TOKENS

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        names = list(TOKENS)
        return " ".join(names[i] for i in ids if not (skip_special_tokens and names[i].startswith("<")))
