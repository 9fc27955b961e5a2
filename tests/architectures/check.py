#!/usr/bin/env python3
"""Merges the checkpoints that make.py wrote, and holds the results to what transformers makes of them.

  check.py LAMARCK ZOO [--only FAMILY]... [--write FILE]

For every family a TIES of two models and a base, a slerp, and a stack of layers are built. A result must load in
transformers without a missing or an unexpected tensor and with the shapes that its config.json says, and every
parameter must be what numpy computes in float64 from the parameters of the inputs as transformers has loaded them.
Needs torch, transformers 5 and numpy.
"""
import argparse, json, os, re, shutil, subprocess, sys, tempfile

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import numpy as np
import torch
import transformers

LAYERS = re.compile(r"\.(\d+)\.")
STACKS = ("layers", "h", "block", "blocks", "layer", "decoder_layers")


def load(folder):
    config = json.load(open(os.path.join(folder, "config.json")))
    cls = getattr(transformers, config["architectures"][0])
    model, info = cls.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    wrong = {k: sorted(map(str, info.get(k) or ())) for k in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    return model, {k: v for k, v in wrong.items() if v}


def parameters(model):
    """Name and value of every parameter and buffer that is saved, those that are tied once, in the order of the model."""
    seen, found = set(), {}
    saved = model.state_dict(keep_vars=True)
    for name, tensor in saved.items():
        if tensor.data_ptr() in seen and tensor.numel():
            continue
        seen.add(tensor.data_ptr())
        found[name] = tensor.detach().double().numpy() if tensor.is_floating_point() else tensor.detach().numpy()
    return found


def text_stack(model):
    """The longest list of layers that is not a tower's: its name."""
    best = None
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and name.split(".")[-1] in STACKS and not re.search("vis|audio|encoder|image|resampler|connector|perceiver|qformer|gated", name.replace("text_encoder", "")):
            if re.search(r"\.\d+\.", name):
                continue
            if best is None or len(module) > len(best[1]):
                best = (name, module)
    return (best[0], len(best[1])) if best else (None, 0)


def ties(base, models, weights, densities):
    sparse = []
    for x, w, d in zip(models, weights, densities):
        delta = x - base
        keep = int(d * delta.size)
        flat = np.abs(delta).ravel()
        mask = np.zeros(delta.size, bool)
        mask[np.argsort(-flat, kind="stable")[: max(keep, 1)]] = True
        sparse.append(w * delta * mask.reshape(delta.shape))
    total = sum(sparse)
    sign = np.where(total >= 0, 1.0, -1.0)
    kept = [np.where(np.sign(s) == sign, s, 0.0) for s in sparse]
    divisor = sum(np.where(np.sign(s) == sign, w, 0.0) for s, w in zip(sparse, weights))
    return base + sum(kept) / np.where(divisor == 0, 1.0, divisor)


def slerp(a, b, t):
    n = [np.linalg.norm(x) for x in (a, b)]
    n = [x if x > 1e-8 else 1.0 for x in n]
    c = np.clip(np.sum(a / n[0] * (b / n[1])), -1, 1)
    if abs(c) > 0.9995:
        return (1 - t) * a + t * b
    angle = np.arccos(c)
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


def recipes(root, stack, several, other):
    a, b, base = (os.path.join(root, name) for name in ("a", other, "base"))
    yield "ties", (
        f"merge_method: ties\nbase_model: {base}\ndtype: float32\nmodels:\n"
        f"- {{model: {a}, parameters: {{weight: 0.7, density: 0.6}}}}\n- {{model: {b}, parameters: {{weight: 0.5, density: 0.4}}}}\n")
    yield "slerp", (
        f"merge_method: slerp\nbase_model: {a}\ndtype: float32\nmodels: [{{model: {b}}}]\nparameters: {{t: 0.35}}\n")
    if stack[1] >= 2:
        n = stack[1]
        slices = (f"- sources: [{{model: {a}, layer_range: [0, {n - 1}]}}]\n- sources: [{{model: {b}, layer_range: [{n - 2}, {n}]}}]\n")
        if several is None:
            yield "stack", f"merge_method: passthrough\ndtype: float32\nslices:\n{slices}"
        else:
            text, others = several
            body = "".join("    " + line + "\n" for line in slices.splitlines())
            body = f"merge_method: passthrough\ndtype: float32\nmodules:\n  {text}:\n    slices:\n{body}"
            body += "".join(f"  {name}:\n    models: [{{model: {b}}}]\n" for name in others)
            yield "stack", body


def modules(binary, model, text_prefix):
    """The modules that lamarck sees, that of the text stack first; None if there is one."""
    said = json.loads(subprocess.run([binary, "inspect", model, "--json"], capture_output=True, text=True, check=True).stdout)
    found = said.get("modules") or said.get("layout", {}).get("modules") or []
    names = [m["name"] for m in found]
    if len(names) < 2:
        return None
    text = next((n for n in names if n in ("language_model", "text_model", "model", "decoder")), names[0])
    return text, [n for n in names if n != text]


def expected_stack(a, b, name, n, several, result):
    """By the model's own order: what stands before the layers is the first slice's, the rest the last one's."""
    order = list(a)
    first = next(i for i, key in enumerate(order) if key.startswith(name + "."))
    sources = [("a", i) for i in range(n - 1)] + [("b", i) for i in range(n - 2, n)]
    found = {}
    for key in result:
        match = re.match(re.escape(name) + r"\.(\d+)\.(.*)", key)
        if match:
            which, layer = sources[int(match[1])]
            found[key] = (a if which == "a" else b).get(f"{name}.{layer}.{match[2]}")
        elif key in a:
            outer = name.rsplit(".", 1)[0] + "." if "." in name else ""
            is_text = several is None or key.startswith(outer) or "head" in key.split(".")[0]
            # These are registered in another place than where the model applies them.
            is_last = "final_layer_norm" in key
            is_first = "vision_embed_tokens" in key
            before = (order.index(key) < first or is_first) and not is_last if several is None else "embed" in key
            found[key] = a[key] if is_text and before else b[key]
    return found


def compare(ours, expected):
    if set(ours) != set(expected):
        return f"parameters {sorted(set(ours) ^ set(expected))[:3]} are in one of the two"
    for name, value in ours.items():
        other = expected[name]
        if other is None:
            return f"{name}: nothing is expected"
        if value.shape != other.shape:
            return f"{name}: {value.shape} is not {other.shape}"
        off = np.abs(value - other) > 2e-5 * max(np.abs(other).max(initial=0), 1e-9) if value.dtype.kind == "f" else value != other
        if off.sum() > max(2, value.size // 500):
            return f"{name}: {off.sum()} of {value.size} values are off"
    return None


def check(binary, root, scratch):
    results = {}
    others = ["b"] + (["b-new"] if is_other_layout(root) else [])
    inputs = {}
    for name in ("a", "b", "base"):
        model, wrong = load(os.path.join(root, name))
        if wrong:
            return {"load": f"transformers does not load its own {name}: {str(wrong)[:120]}"}
        inputs[name] = parameters(model)
    stack = text_stack(model)
    several = modules(binary, os.path.join(root, "a"), stack[0])
    for other in others:
        for name, recipe in recipes(root, stack, several, other):
            label = name if other == "b" else name + "-layouts"
            out = os.path.join(scratch, "out")
            shutil.rmtree(out, ignore_errors=True)
            path = os.path.join(scratch, "r.yaml")
            open(path, "w").write(recipe)
            run = subprocess.run([binary, "build", path, "--out", out, "--cache", os.path.join(scratch, "cache")], capture_output=True, text=True, cwd=scratch)
            if run.returncode:
                lines = [line for line in run.stderr.splitlines() if line.startswith("error")]
                results[label] = (lines or run.stderr.splitlines() or ["it fails"])[0][:240]
                continue
            try:
                merged, wrong = load(out)
            except Exception as error:
                results[label] = f"does not load: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
                continue
            if wrong:
                results[label] = f"loads with {str(wrong)[:200]}"
                continue
            ours = parameters(merged)
            a, b, base = (inputs[key] for key in ("a", "b", "base"))
            def each(function):
                return {k: function(*(x[k] for x in (base, a, b))) if a[k].dtype.kind == "f" else a[k] for k in a}
            if name == "ties":
                expected = each(lambda base, a, b: ties(base, [a, b], [0.7, 0.5], [0.6, 0.4]))
            elif name == "slerp":
                expected = each(lambda base, a, b: slerp(a, b, 0.35))
            else:
                expected = expected_stack(a, b, *stack, several, ours)
                layers = text_stack(merged)[1]
                if layers != stack[1] + 1:
                    results[label] = f"has {layers} layers, not {stack[1] + 1}"
                    continue
            results[label] = compare(ours, expected)
    return results


def header(folder):
    names = {}
    for file in sorted(os.listdir(folder)):
        if file.endswith(".safetensors"):
            with open(os.path.join(folder, file), "rb") as f:
                size = int.from_bytes(f.read(8), "little")
                names.update(json.loads(f.read(size)))
    return sorted(names)


def is_other_layout(root):
    new = os.path.join(root, "b-new")
    return os.path.isdir(new) and header(new) != header(os.path.join(root, "b"))


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("binary")
    args.add_argument("zoo")
    args.add_argument("--only", action="append")
    args.add_argument("--write")
    args = args.parse_args()
    made = json.load(open(os.path.join(args.zoo, "made.json")))
    table = {}
    for family in sorted(made):
        if (args.only and family not in args.only) or "failed" in made[family]:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            try:
                results = check(os.path.abspath(args.binary), os.path.join(os.path.abspath(args.zoo), family), scratch)
            except Exception as error:
                results = {"check": f"{type(error).__name__}: {error}"[:240]}
        table[family] = results
        wrong = {k: v for k, v in results.items() if v}
        print(f"{'ok  ' if not wrong else 'FAIL'} {family}: {' '.join(results)}" + "".join(f"\n       {k}: {v}" for k, v in wrong.items()), flush=True)
    good = sum(not any(r.values()) for r in table.values())
    print(f"{good} of {len(table)} families")
    if args.write:
        json.dump(table, open(args.write, "w"), indent=1)
    return 0 if good == len(table) else 1


if __name__ == "__main__":
    sys.exit(main())
