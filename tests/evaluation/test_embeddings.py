"""CLIP embeddings through ComfyUI's models, compared with transformers' CLIPModel of the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd
import pytest
import safetensors.torch
import torch
from evaluation_support import PART, PICTURE, VISION, WIDTH, textured, vision_model
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from animatediff_native.demo.evaluate import Miniature
from animatediff_native.demo.train import MODELS
from animatediff_native.evaluation.embeddings import embed
from animatediff_native.evaluation.in_graph import score_clip
from animatediff_native.evaluation.score import Embeddings, compare

TEXT = PART | {"max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 49407}
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's pictures
PROMPT = "a red star over the sea"


@pytest.fixture(scope="module")
def oracle() -> CLIPModel:
    torch.manual_seed(0)
    config = CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=WIDTH)
    model = CLIPModel(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
        parameter.data = parameter.data.half().float()  # ComfyUI holds these models in half precision
    return model


def part(oracle: CLIPModel, *names: str) -> dict[str, Tensor]:
    return {key: value.contiguous() for key, value in oracle.state_dict().items() if key.startswith(names)}


@pytest.fixture
def clip_vision(oracle, tmp_path) -> Any:
    model = vision_model(tmp_path)
    model.load_sd(part(oracle, "vision_model", "visual_projection"))
    return model


def text_model(file: Path) -> Any:
    return comfy.sd.load_clip([str(file)], model_options={"model_config": dict(TEXT)})


@pytest.fixture
def clip_file(oracle, tmp_path) -> Path:
    """In the layout of clip_l.safetensors."""
    file = tmp_path / "clip_l.safetensors"
    safetensors.torch.save_file(part(oracle, "text_model", "text_projection"), file)
    return file


def pictures(frames: int, size: tuple[int, int] = (PICTURE, PICTURE)) -> Tensor:
    """(f, h, w, 3), exact in bytes."""
    clip = torch.cat([textured(size, seed) for seed in range(frames)]).movedim(1, -1)
    return (clip * 255).round() / 255


def expected_images(oracle: CLIPModel, images: Tensor) -> Tensor:
    pixels = (images.movedim(-1, 1) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
    return oracle.visual_projection(oracle.vision_model(pixel_values=pixels).pooler_output)


def expected_text(oracle: CLIPModel, clip: Any, text: str) -> Tensor:
    ids = torch.tensor([clip.tokenizer.clip_l.tokenizer(text)["input_ids"]])
    return oracle.text_projection(oracle.text_model(input_ids=ids).pooler_output)[0]


def test_agreement_look_and_smoothness_are_those_of_transformers(oracle, clip_vision, clip_file):
    images, references, clip = pictures(10), pictures(14)[10:], text_model(clip_file)
    result = compare(embed(clip_vision, images, references=[references], clip=clip, text=PROMPT))
    frames, stills = expected_images(oracle, images), expected_images(oracle, references)
    text = expected_text(oracle, clip, PROMPT)
    cosine = torch.nn.functional.cosine_similarity
    assert result["text"] == pytest.approx(100 * float(cosine(frames, text[None]).mean()), abs=1e-3)
    assert result["look"] == pytest.approx(100 * float(cosine(frames[:, None], stills[None], dim=2).mean()), abs=1e-3)
    assert result["smoothness"] == pytest.approx(100 * float(cosine(frames[:-1], frames[1:]).mean()), abs=1e-3)
    assert result["note"] == ""
    assert abs(result["text"]) < 99 and result["smoothness"] < 99.9  # not all the same


def test_the_text_is_not_what_the_unet_gets(oracle, clip_vision, clip_file):
    """ComfyUI's pooled output of SD1.5's encoder has the right length, and is in another space."""
    clip = text_model(clip_file)
    result = embed(clip_vision, pictures(2), clip=clip, text=PROMPT).text
    assert result is not None
    _, pooled = clip.encode_from_tokens(clip.tokenize(PROMPT), return_pooled=True)
    torch.testing.assert_close(result, expected_text(oracle, clip, PROMPT), rtol=1e-4, atol=1e-4)
    assert pooled.shape[1] == len(result)
    assert torch.cosine_similarity(pooled[0], result, dim=0) < 0.9


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_file_without_a_text_projection_gives_a_note_and_no_number(oracle, clip_vision, tmp_path, suffix):
    file = tmp_path / f"clip_l.{suffix}"
    save = safetensors.torch.save_file if suffix == "safetensors" else torch.save
    save(part(oracle, "text_model"), file)
    result = embed(clip_vision, pictures(2), clip=text_model(file), text=PROMPT)
    assert result.text is None
    assert "holds no text projection; load clip_l.safetensors" in result.note


def test_a_checkpoint_gives_a_note_and_no_number(clip_vision):
    result = embed(clip_vision, pictures(2), clip=Miniature(MODELS).clip, text="a red star")
    assert result.text is None
    assert "holds no text projection" in result.note


def test_a_text_encoder_of_unknown_origin_gives_a_note_and_no_number(clip_vision, clip_file):
    clip = text_model(clip_file)
    clip.patcher.cached_patcher_init = None
    result = embed(clip_vision, pictures(2), clip=clip, text=PROMPT)
    assert result.text is None
    assert "text projection is unknown" in result.note


def test_without_a_text_there_is_no_embedding_and_no_note(clip_vision, clip_file):
    result = embed(clip_vision, pictures(2), clip=text_model(clip_file), text="  ")
    assert (result.text, result.note) == (None, "")


def test_references_of_any_size_are_compared(oracle, clip_vision):
    likened = embed(clip_vision, pictures(2), references=[pictures(1), pictures(2, (PICTURE, 2 * PICTURE))])
    assert likened.references is not None
    assert likened.references.shape == (3, WIDTH)
    middle = pictures(2, (PICTURE, 2 * PICTURE))[:, :, PICTURE // 2 : PICTURE // 2 + PICTURE]
    torch.testing.assert_close(likened.references[1:], expected_images(oracle, middle), rtol=1e-4, atol=1e-4)


def test_a_vision_model_without_an_embedding_of_the_picture_is_refused(tmp_path):
    siglip = vision_model(tmp_path, model_type="siglip_vision_model", projection_dim=None)
    with pytest.raises(ValueError, match="has no embedding of a whole picture"):
        embed(siglip, pictures(2))


def test_frames_alike_are_smoothest(clip_vision):
    still = pictures(1).expand(6, -1, -1, -1)
    smooth, unrelated = (compare(embed(clip_vision, clip))["smoothness"] for clip in (still, pictures(6)))
    assert smooth == pytest.approx(100, abs=1e-3)
    assert unrelated < smooth - 1


def test_what_was_not_given_is_not_compared(clip_vision):
    result = embed(clip_vision, pictures(2))
    assert isinstance(result, Embeddings)
    assert (compare(result)["look"], compare(result)["text"]) == (None, None)


@pytest.mark.parametrize(
    "references",
    [
        torch.zeros(0, 32, 32, 3),
        torch.zeros(32, 32, 3),
        torch.zeros(1, 32, 32, 1),
        torch.full((1, 32, 32, 3), float("nan")),
    ],
    ids=["none", "no batch", "grey", "NaN"],
)
def test_references_that_cannot_be_compared_are_refused(clip_vision, references):
    with pytest.raises(ValueError, match="cannot be compared: connect one or more colour pictures"):
        embed(clip_vision, pictures(2), references=[references])


def test_a_clip_that_cannot_be_scored_is_refused_before_it_is_embedded(clip_vision):
    for images, sentence in ((pictures(2)[:0], "0 frame"), (pictures(2)[0], "has the shape")):
        with pytest.raises(ValueError, match=sentence):
            score_clip(
                images=images,
                text="",
                clip_vision=clip_vision,
                clip=None,
                reference_images=None,
                optical_flow=None,
                context_length=0,
                context_overlap=4,
            )


def test_a_vision_model_that_gives_nan_is_refused(clip_vision):
    next(clip_vision.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="gives NaN or infinite values"):
        embed(clip_vision, pictures(2))
