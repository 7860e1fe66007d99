"""Model families of `transformers`, one small member each with random weights: what the capture table runs over.

Every entry names its kind (encoder, decoder, encoder-decoder, vision, speech, mixture of experts, state space,
several modalities), the class, a small configuration, and the inputs of one call. Sizes are small enough that capture,
not arithmetic, takes the time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LAMPWORK_REMEMBER", "0")  # each run compiles as the first one does
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import transformers

VOCABULARY = 99
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {**TEXT, **ENDS, "num_key_value_heads": 2}
SEQ2SEQ = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
}
T5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
IMAGE = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SPEECH = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (32, 32, 32),
    "conv_stride": (4, 4, 4),
    "conv_kernel": (8, 8, 8),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}

Inputs = Callable[..., dict[str, Any]]
"""From `batch` and `length` (in tokens; other inputs follow, or are always alike) to the inputs of a call."""


@dataclass(frozen=True)
class Family:
    """One family: how to build its small member and the inputs of a call."""

    name: str
    kind: str
    model_class: str
    config_class: str
    config: dict[str, Any]
    inputs: Inputs

    def build(self) -> torch.nn.Module:
        """The model, on the CPU, in eval mode, with weights from a fixed seed."""
        torch.manual_seed(0)
        config = getattr(transformers, self.config_class)(**self.config)
        return getattr(transformers, self.model_class)(config).eval()


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def _ids(batch: int = 2, length: int = 16) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(3))


def tokens(batch: int = 2, length: int = 16) -> dict[str, Any]:
    """Sequences of tokens; the last is padded over the last quarter."""
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[-1, max(length * 3 // 4, 1) :] = 0
    return {"input_ids": _ids(batch, length), "attention_mask": mask}


def tokens_only(batch: int = 2, length: int = 16) -> dict[str, Any]:
    return {"input_ids": _ids(batch, length)}


def pairs(batch: int = 2, length: int = 16) -> dict[str, Any]:
    """Encoder and decoder tokens."""
    return {**tokens(batch, length), "decoder_input_ids": _ids(batch, (length + 1) // 2)}


def image(edge: int = 32) -> Inputs:
    """Images of one size."""
    return lambda batch=2, length=16: {"pixel_values": _random(batch, 3, edge, edge)}


def any_image(batch: int = 2, length: int = 16) -> dict[str, Any]:
    """Images for models of convolutions, which take any size."""
    return {"pixel_values": _random(batch, 3, 32 + 2 * length, 32 + 2 * length)}


def waveform(batch: int = 2, length: int = 16) -> dict[str, Any]:
    return {"input_values": _random(batch, 800 + 50 * length)}


def image_and_text(batch: int = 2, length: int = 16) -> dict[str, Any]:
    return {**tokens(batch, length), "pixel_values": _random(batch, 3, 32, 32)}


def spectrum_and_text(batch: int = 2, length: int = 16) -> dict[str, Any]:
    return {"input_features": _random(batch, 16, 40), "decoder_input_ids": _ids(batch, (length + 1) // 2)}


def frames_and_text(batch: int = 2, length: int = 16) -> dict[str, Any]:
    return {
        "input_features": _random(batch, 24 + length, 16),
        "decoder_input_ids": _ids(batch, (length + 1) // 2),
    }


def spectrum(batch: int = 2, length: int = 16) -> dict[str, Any]:
    return {"input_values": _random(batch, 32, 16)}


def series(batch: int = 2, length: int = 16) -> dict[str, Any]:
    return {
        "past_values": _random(batch, 10).abs(),
        "past_time_features": _random(batch, 10, 1),
        "past_observed_mask": torch.ones(batch, 10),
        "future_values": _random(batch, 4).abs(),
        "future_time_features": _random(batch, 4, 1),
    }


def _text(name: str, prefix: str, suffix: str, config: dict[str, Any], inputs: Inputs = tokens) -> Family:
    return Family(name, "encoder", f"{prefix}{suffix}", f"{prefix}Config", config, inputs)


def _decoder(name: str, prefix: str, config: dict[str, Any], kind: str = "decoder", inputs: Inputs = tokens) -> Family:
    return Family(name, kind, f"{prefix}ForCausalLM", f"{prefix}Config", config, inputs)


_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
_CLIP_TEXT = {**TEXT, "projection_dim": 16}
_MAMBA = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
_LONGFORMER = {**TEXT, "attention_window": 8, "pad_token_id": 1}

FAMILIES: tuple[Family, ...] = (
    _text("bert", "Bert", "ForMaskedLM", TEXT),
    _text("roberta", "Roberta", "ForMaskedLM", {**TEXT, "pad_token_id": 1}),
    _text("distilbert", "DistilBert", "ForMaskedLM",
          {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}),
    _text("albert", "Albert", "ForMaskedLM", {**TEXT, "embedding_size": 16}),
    _text("electra", "Electra", "ForMaskedLM", {**TEXT, "embedding_size": 16}),
    _text("deberta-v2", "DebertaV2", "ForMaskedLM",
          {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}),
    _text("mpnet", "MPNet", "ForMaskedLM", TEXT),
    _text("longformer", "Longformer", "ForMaskedLM", _LONGFORMER),
    _text("big_bird", "BigBird", "ForMaskedLM", {**TEXT, "attention_type": "original_full"}),
    _text("modernbert", "ModernBert", "ForMaskedLM",
          {**TEXT, **ENDS, "cls_token_id": 1, "sep_token_id": 2, "global_attn_every_n_layers": 2}),
    _text("xlnet", "XLNet", "LMHeadModel",
          {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}),
    _text("funnel", "Funnel", "ForMaskedLM",
          {"vocab_size": VOCABULARY, "block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48}),
    Family("gpt2", "decoder", "GPT2LMHeadModel", "GPT2Config", _GPT2, tokens),
    _decoder("gpt_neox", "GPTNeoX", TEXT),
    _decoder("gptj", "GPTJ", {**_GPT2, "rotary_dim": 4}),
    _decoder("gpt_neo", "GPTNeo",
             {"vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
              "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64}),
    _decoder("opt", "OPT",
             {"vocab_size": VOCABULARY, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2,
              "num_attention_heads": 4, "max_position_embeddings": 64, "word_embed_proj_dim": 32}),
    _decoder("bloom", "Bloom", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    _decoder("llama", "Llama", GROUPED),
    _decoder("mistral", "Mistral", {**GROUPED, "sliding_window": 8}),
    _decoder("qwen2", "Qwen2", GROUPED),
    _decoder("qwen3", "Qwen3", {**GROUPED, "head_dim": 8}),
    _decoder("phi", "Phi", {**GROUPED, "num_key_value_heads": 4}),
    _decoder("gemma2", "Gemma2", {**GROUPED, "head_dim": 8, "sliding_window": 8}),
    _decoder("falcon", "Falcon", {k: v for k, v in TEXT.items() if k != "intermediate_size"}),
    _decoder("stablelm", "StableLm", GROUPED),
    _decoder("mixtral", "Mixtral", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}, "experts"),
    _decoder("qwen2_moe", "Qwen2Moe",
             {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
              "shared_expert_intermediate_size": 16}, "experts"),
    _decoder("olmoe", "Olmoe", {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2}, "experts"),
    Family("switch_transformers", "experts", "SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig",
           {**T5, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 4}, pairs),
    _decoder("mamba", "Mamba", _MAMBA, "state space", tokens_only),
    _decoder("mamba2", "Mamba2",
             {**_MAMBA, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8}, "state space", tokens_only),
    _decoder("recurrent_gemma", "RecurrentGemma",
             {**GROUPED, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8}, "state space"),
    Family("rwkv", "state space", "RwkvForCausalLM", "RwkvConfig",
           {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 64}, tokens_only),
    Family("t5", "encoder-decoder", "T5ForConditionalGeneration", "T5Config", T5, pairs),
    Family("bart", "encoder-decoder", "BartForConditionalGeneration", "BartConfig", SEQ2SEQ, pairs),
    Family("pegasus", "encoder-decoder", "PegasusForConditionalGeneration", "PegasusConfig", SEQ2SEQ, pairs),
    Family("marian", "encoder-decoder", "MarianMTModel", "MarianConfig",
           {**SEQ2SEQ, "pad_token_id": 1, "decoder_start_token_id": 2}, pairs),
    Family("m2m_100", "encoder-decoder", "M2M100ForConditionalGeneration", "M2M100Config", SEQ2SEQ, pairs),
    Family("led", "encoder-decoder", "LEDForConditionalGeneration", "LEDConfig",
           {**{k: v for k, v in SEQ2SEQ.items() if k != "max_position_embeddings"}, "attention_window": [8, 8],
            "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64}, pairs),
    Family("vit", "vision", "ViTForImageClassification", "ViTConfig", IMAGE, image()),
    Family("deit", "vision", "DeiTForImageClassification", "DeiTConfig", IMAGE, image()),
    Family("beit", "vision", "BeitForImageClassification", "BeitConfig", IMAGE, image()),
    Family("swin", "vision", "SwinForImageClassification", "SwinConfig",
           {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2],
            "window_size": 4}, image()),
    Family("convnext", "vision", "ConvNextForImageClassification", "ConvNextConfig",
           {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "num_stages": 4}, any_image),
    Family("resnet", "vision", "ResNetForImageClassification", "ResNetConfig",
           {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}, any_image),
    Family("segformer", "vision", "SegformerForSemanticSegmentation", "SegformerConfig",
           {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2],
            "decoder_hidden_size": 16}, any_image),
    Family("mobilevit", "vision", "MobileViTForImageClassification", "MobileViTConfig",
           {"image_size": 64, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 8, 8, 16, 16, 32],
            "num_attention_heads": 2}, any_image),
    Family("dinov2", "vision", "Dinov2Model", "Dinov2Config", IMAGE, image()),
    Family("wav2vec2", "speech", "Wav2Vec2ForCTC", "Wav2Vec2Config", SPEECH, waveform),
    Family("hubert", "speech", "HubertForCTC", "HubertConfig", SPEECH, waveform),
    Family("whisper", "speech", "WhisperForConditionalGeneration", "WhisperConfig",
           {**{k: v for k, v in SEQ2SEQ.items() if k != "max_position_embeddings"}, **ENDS, "num_mel_bins": 16,
            "max_source_positions": 20, "max_target_positions": 32, "decoder_start_token_id": 3,
            "suppress_tokens": None, "begin_suppress_tokens": None},
           spectrum_and_text),
    Family("speech_to_text", "speech", "Speech2TextForConditionalGeneration", "Speech2TextConfig",
           {**{k: v for k, v in SEQ2SEQ.items() if k != "max_position_embeddings"}, "input_feat_per_channel": 16,
            "conv_channels": 32, "max_source_positions": 64, "max_target_positions": 32},
           frames_and_text),
    Family("audio_spectrogram", "speech", "ASTForAudioClassification", "ASTConfig",
           {**{k: v for k, v in IMAGE.items() if k != "image_size"}, "num_mel_bins": 16, "max_length": 32},
           spectrum),
    Family("clip", "several modalities", "CLIPModel", "CLIPConfig",
           {"text_config": {**_CLIP_TEXT, **ENDS}, "vision_config": {**IMAGE, "projection_dim": 16},
            "projection_dim": 16}, image_and_text),
    Family("vilt", "several modalities", "ViltModel", "ViltConfig",
           {**TEXT, "image_size": 32, "patch_size": 8, "max_image_length": -1}, image_and_text),
    Family("time_series", "several modalities", "TimeSeriesTransformerForPrediction", "TimeSeriesTransformerConfig",
           {"prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2], "num_time_features": 1,
            "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
           series),
)  # fmt: skip
