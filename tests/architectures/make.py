#!/usr/bin/env python3
"""Makes tiny random checkpoints of every family that transformers has, from its own configurations.

  make.py OUT [--only FAMILY]... [--all]

writes OUT/FAMILY/{base,a,b} for each, and OUT/FAMILY/b-new where transformers can also write the names and the joined
experts that it uses itself. OUT/made.json tells what came of each family. Needs torch and transformers 5.
"""
import argparse, copy, json, os, shutil, signal, sys, traceback

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import torch
import transformers
from transformers.models.auto import configuration_auto, modeling_auto as auto

LAYERS = 3
MOST_PARAMETERS = 3_000_000
SECONDS = 60

# What configurations call things, and how large they are to be. A key that a configuration has not is left out.
SMALL = dict(
    vocab_size=48, hidden_size=16, d_model=16, n_embd=16, dim=16, n_embed=16, emb_dim=16, embedding_size=16, hidden_dim=16,
    word_embed_proj_dim=16, embed_dim=16, encoder_hidden_size=16, input_embedding_size=16,
    intermediate_size=24, d_ff=24, ffn_dim=24, encoder_ffn_dim=24, decoder_ffn_dim=24, n_inner=24, ffn_hidden_size=24,
    moe_intermediate_size=8, expert_ffn_hidden_size=8, shared_expert_intermediate_size=12,
    moe_shared_expert_intermediate_size=8, shared_intermediate_size=12, intermediate_size_mlp=24, mlp_hidden_size=24,
    num_hidden_layers=LAYERS, n_layer=LAYERS, n_layers=LAYERS, num_layers=LAYERS, encoder_layers=2, decoder_layers=LAYERS,
    num_decoder_layers=LAYERS, num_encoder_layers=2, num_blocks=LAYERS, depth=2,
    num_attention_heads=4, n_head=4, n_heads=4, num_heads=4, encoder_attention_heads=4, decoder_attention_heads=4,
    num_key_value_heads=2, num_kv_heads=2, attention_heads=4, num_global_key_value_heads=2, multi_query_group_num=2,
    head_dim=4, global_head_dim=4, kv_channels=4, attention_head_size=4, d_kv=4, v_head_dim=4, qk_nope_head_dim=4,
    qk_rope_head_dim=4, qk_head_dim=8, kv_lora_rank=4, q_lora_rank=6, rotary_dim=4, hidden_size_per_head=4,
    index_n_heads=2, index_head_dim=8, index_topk=4, linear_key_head_dim=4, linear_value_head_dim=4,
    linear_num_key_heads=2, linear_num_value_heads=4, lru_width=16, attention_window_size=8, local_attention_window=8,
    num_experts=3, num_local_experts=3, n_routed_experts=4, moe_num_experts=3, num_experts_per_tok=2, moe_k=2, moe_topk=2,
    n_group=2, topk_group=1, moe_num_shared_experts=1, n_shared_experts=1, num_shared_experts=1, zero_expert_num=1,
    max_position_embeddings=64, n_positions=64, n_ctx=64, max_source_positions=20, max_target_positions=20, seq_length=64,
    state_size=4, ssm_state_size=4, mamba_d_state=4, mamba_d_conv=2, mamba_n_heads=4, mamba_d_head=8, mamba_n_groups=1,
    mamba_expand=2, mamba_d_ssm=32, mamba_headdim=8, mamba_num_heads=4, mamba_head_dim=8, n_groups=1, time_step_rank=2,
    mamba_dt_rank=2, conv_kernel=2, expand=2, use_mamba_kernels=False,
    image_size=8, patch_size=4, num_channels=3, spatial_patch_size=4, temporal_patch_size=2, spatial_merge_size=2,
    out_hidden_size=16, projection_dim=16, vision_feature_layer=-1, num_mel_bins=8, mm_tokens_per_image=1,
    image_token_id=40, video_token_id=41, image_token_index=40, vision_start_token_id=42, vision_end_token_id=43,
    audio_token_id=44, boi_token_index=45, eoi_token_index=46, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    hidden_size_per_layer_input=4, vocab_size_per_layer_input=48, num_kv_shared_layers=0, altup_num_inputs=2,
    laurel_rank=4, first_k_dense_replace=1, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
    expert_layer_offset=1, full_attention_interval=2, mlp_ratio=2, pooler_hidden_size=16, qformer_hidden_size=16,
    text_hidden_size=16, vision_hidden_size=16, encoder_layerdrop=0.0, window_size=8, mlp_dim=24, num_position_embeddings=16,
    deepstack_visual_indexes=[1], fullatt_block_indexes=[1], max_image_size=8, d_inner=32, cross_attention_layers=[1],
    use_bias=True, embd_pdrop=0.0, conv_dim=16, block_ff_dim=24, block_dim=16, block_multiple_of=4, full_attn_idxs=[1],
    conv_L_cache=2, hidden_size_scale=1, vision_output_dim=16, projector_input_dim=16, projector_output_dim=16,
    vocab_size_out=48, entity_vocab_size=48, fc_size=16, emb_size=16,
)

# What single families need beside.
OWN = {
    "bert": dict(is_decoder=True), "falcon": dict(new_decoder_architecture=False), "mpt": dict(d_model=16, expansion_ratio=2),
    "deepseek_v2": dict(topk_method="greedy", norm_topk_prob=False),
    "qwen2_moe": dict(mlp_only_layers=[1], decoder_sparse_step=1), "smollm3": dict(no_rope_layers=[1, 0, 1]),
    "zamba2": dict(hybrid_layer_ids=[1], num_mem_blocks=1, layers_block_type=["mamba", "hybrid", "mamba"]),
    "zamba": dict(layers_block_type=["mamba", "hybrid", "mamba"]),
    "jamba": dict(num_experts=2), "gpt_neo": dict(attention_types=[[["global", "local"], 1], [["global"], 1]]),
    "nemotron_h": dict(layers_block_type=["mamba", "attention", "moe"]),
    "recurrent_gemma": dict(block_types=["recurrent", "attention", "recurrent"]),
    "granitemoehybrid": dict(layer_types=["mamba", "attention", "mamba"]),
    "bamba": dict(attn_layer_indices=[1]), "dbrx": dict(),
    "minimax": dict(layer_types=["full_attention", "linear_attention", "full_attention"]),
    "lfm2": dict(layer_types=["conv", "full_attention", "conv"]), "lfm2_moe": dict(layer_types=["conv", "full_attention", "conv"]),
}

# Families that say of their layers how they attend; given the kinds that the family's default has, in turns.
KINDS = ("layer_types", "mlp_layer_types", "layers_block_type")


class TooLong(Exception):
    pass


def alarm(*_):
    raise TooLong(f"took more than {SECONDS} s")


def shrunk(cls, overrides, depth=0):
    """A configuration of a class with everything small, its parts too."""
    default = cls()
    known = default.to_dict()
    wanted = {k: v for k, v in SMALL.items() if k in known or k in getattr(cls, "attribute_map", {})}
    # One name is enough where a class has several for one thing.
    for alias, name in getattr(cls, "attribute_map", {}).items():
        if alias in wanted and name in wanted:
            del wanted[alias]
    for name in KINDS:
        if isinstance(known.get(name), list) and known[name]:
            kinds = list(dict.fromkeys(known[name]))
            wanted[name] = [kinds[i % len(kinds)] for i in range(LAYERS)]
    for name, part in (getattr(cls, "sub_configs", {}) or {}).items():
        current = getattr(default, name, None)
        part = type(current) if current is not None and not isinstance(current, dict) else part
        if part is None or part is transformers.AutoConfig:
            continue
        small = shrunk(part, {}, depth + 1)
        wanted[name] = small.to_dict() if depth == 0 else small.to_dict()
    wanted.update(overrides)
    while True:
        try:
            return cls(**wanted)
        except TypeError as error:
            word = str(error).split("'")[1] if "unexpected keyword" in str(error) else None
            if word not in wanted:
                raise
            del wanted[word]


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    done = set()
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.data_ptr() in done or not tensor.is_floating_point():
                continue
            done.add(tensor.data_ptr())
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2 + 0.05)


def make(family, cls_name, out):
    config_cls = configuration_auto.CONFIG_MAPPING[family]
    cls = getattr(transformers, cls_name)
    config = shrunk(config_cls, OWN.get(family, {}))
    with torch.device("meta"):
        size = sum(p.numel() for p in cls(copy.deepcopy(config)).parameters())
    if size > MOST_PARAMETERS:
        raise ValueError(f"still has {size} parameters")
    config.dtype = torch.float32
    where = os.path.join(out, family)
    for number, name in enumerate(("base", "a", "b")):
        torch.manual_seed(number)
        model = cls(copy.deepcopy(config)).float()
        randomise(model, 100 + number)
        if name != "base":
            base = cls.from_pretrained(os.path.join(where, "base"), dtype=torch.float32)
            with torch.no_grad():
                for (key, mine), (_, other) in zip(model.named_parameters(), base.named_parameters()):
                    if mine.is_floating_point():
                        mine.mul_(0.5).add_(other)
        model.save_pretrained(os.path.join(where, name), max_shard_size="1GB")
        if name == "b":
            try:
                model.save_pretrained(os.path.join(where, "b-new"), max_shard_size="1GB", save_original_format=False)
            except Exception as error:
                shutil.rmtree(os.path.join(where, "b-new"), ignore_errors=True)
    return dict(cls=cls_name, parameters=size)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("out")
    args.add_argument("--only", action="append")
    args = args.parse_args()
    os.makedirs(args.out, exist_ok=True)
    families = dict(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    families.update(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
    families.update(auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    families.update(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    families["whisper"] = "WhisperForConditionalGeneration"
    path = os.path.join(args.out, "made.json")
    made = json.load(open(path)) if os.path.exists(path) else {}
    signal.signal(signal.SIGALRM, alarm)
    for family, cls in families.items():
        if args.only and family not in args.only:
            continue
        cls = cls if isinstance(cls, str) else cls[0]
        shutil.rmtree(os.path.join(args.out, family), ignore_errors=True)
        signal.alarm(SECONDS)
        try:
            made[family] = make(family, cls, args.out)
        except Exception as error:
            made[family] = dict(cls=cls, failed=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200])
            shutil.rmtree(os.path.join(args.out, family), ignore_errors=True)
            if args.only:
                traceback.print_exc()
        signal.alarm(0)
        json.dump(made, open(path, "w"), indent=1)
        print(family, made[family], flush=True)


if __name__ == "__main__":
    main()
