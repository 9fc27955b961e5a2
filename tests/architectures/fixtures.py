#!/usr/bin/env python3
"""Makes tests/fixtures/families: models of a few kB, and what a TIES of them must be, by transformers and numpy alone.

  fixtures.py OUT

OUT/FAMILY/{base,a} have the names of older files, b has those that transformers 5 uses itself, and expected is saved
with the names of the base. Needs torch and transformers 5.
"""
import copy, os, shutil, sys

import torch
import transformers

import make
from check import ties

TINY = dict(hidden_size=4, intermediate_size=6, vocab_size=8, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=2, max_position_embeddings=8)
FAMILIES = {
    "qwen2_moe": dict(TINY, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=3, shared_expert_intermediate_size=3,
                      mlp_only_layers=[1], layer_types=["full_attention"] * 2),
    "llava": dict(text_config=dict(TINY, model_type="llama"), image_token_index=7, image_token_id=7, vision_feature_layer=-1,
                  vision_config=dict(model_type="clip_vision_model", hidden_size=4, intermediate_size=6, num_hidden_layers=1,
                                     num_attention_heads=2, image_size=4, patch_size=4, projection_dim=4)),
}
CLASSES = {"qwen2_moe": "Qwen2MoeForCausalLM", "llava": "LlavaForConditionalGeneration"}


def main(out):
    for family, settings in FAMILIES.items():
        config = transformers.CONFIG_MAPPING[family](**settings)
        config.dtype = torch.float32
        cls, where, models = getattr(transformers, CLASSES[family]), os.path.join(out, family), {}
        shutil.rmtree(where, ignore_errors=True)
        for number, name in enumerate(("base", "a", "b")):
            models[name] = model = cls(copy.deepcopy(config)).float()
            make.randomise(model, number)
            if name != "base":
                with torch.no_grad():
                    for mine, base in zip(model.parameters(), models["base"].parameters()):
                        mine.mul_(0.5).add_(base)
            model.save_pretrained(os.path.join(where, name), save_original_format=name != "b")
        parts = {name: dict(model.named_parameters()) for name, model in models.items()}
        with torch.no_grad():
            merged = copy.deepcopy(models["base"])
            for key, tensor in merged.named_parameters():
                base, a, b = (parts[name][key].double().numpy() for name in ("base", "a", "b"))
                tensor.copy_(torch.from_numpy(ties(base, [a, b], [0.7, 0.5], [0.6, 0.4])))
        merged.save_pretrained(os.path.join(where, "expected"))
        for name in ("base", "a", "b", "expected"):
            generation = os.path.join(where, name, "generation_config.json")
            if os.path.exists(generation):
                os.remove(generation)


if __name__ == "__main__":
    main(sys.argv[1])
