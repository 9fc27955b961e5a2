#!/usr/bin/env python3
"""Builds the seven-stage recipe with mergekit-multi 0.1.5 and with lamarck, in turn, and prints what each took.

    python3 benches/versus_mergekit/run.py [--rounds 3] [--only cold] [--work DIR] [--mergekit ENV] [-- --hidden 1024 ...]

What follows `--` is the shape of the ancestors that are generated (see `cargo bench --bench generate -- --help`);
by default they have 178 million parameters each. mergekit is installed into a scratch environment, unless `--mergekit`
names one. Needs Python 3.9 with venv, and Linux for the memory figures.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
RECIPE = PROJECT / "recipes" / "lamarck-14b-v0.3-full.yaml"
VERSION = "0.1.5"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["cold"], help="leave out what comes after a build from nothing")
    parser.add_argument("--work", type=Path, default=PROJECT / "target" / "versus_mergekit")
    parser.add_argument("--mergekit", type=Path, help="a virtual environment with mergekit " + VERSION)
    parser.add_argument("shape", nargs="*", help="options of the generator")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    env = args.mergekit or install_mergekit(args.work / "mergekit")
    if Path(sys.prefix).resolve() != env.resolve():
        # The environment has the YAML reader that the recipe is converted with.
        only = ["--only", args.only] if args.only else []
        rest = ["--rounds", str(args.rounds), *only, "--work", args.work, "--mergekit", env, "--", *args.shape]
        python = env / "bin" / "python"
        os.execv(python, [str(part) for part in [python, __file__, *rest]])
    os.chdir(PROJECT)
    ancestors = args.work.resolve() / "ancestors"
    subprocess.run(["cargo", "build", "--release", "--locked"], check=True)
    subprocess.run(["cargo", "bench", "--bench", "generate", "--", ancestors, *args.shape], check=True)
    rows = race(args.work.resolve(), ancestors, env, args.rounds, args.only)
    report(rows, args.rounds)


def install_mergekit(env):
    if not (env / "bin" / "mergekit-multi").exists():
        subprocess.run([sys.executable, "-m", "venv", env], check=True)
        torch = ["torch", "--index-url", "https://download.pytorch.org/whl/cpu"]
        pip = [env / "bin" / "pip", "install", "--quiet"]
        # The smaller torch without CUDA, where it can be had.
        subprocess.run([*pip, *torch], check=False)
        subprocess.run([*pip, "mergekit==" + VERSION], check=True)
    return env


def race(work, ancestors, env, rounds, only):
    """For every scenario the measurements of both programs, taken in turn."""
    lamarck = PROJECT / "target" / "release" / "lamarck"
    theirs, ours = work / "mergekit-out", work / "lamarck-out"
    (work / "converted.yaml").write_text(converted(RECIPE.read_text(), ancestors))

    def mergekit(weight, *flags):
        recipe = work / "converted.yaml"
        text = recipe.read_text()
        recipe.write_text(re.sub(r"weight: (0\.9|0\.8\d*)\n", f"weight: {weight}\n", text, count=1))
        command = [env / "bin" / "mergekit-multi", recipe, "-I", theirs, "--random-seed", "42", "--quiet", *flags]
        return measure(command, {"HF_HUB_OFFLINE": "1"}, work)

    def build(weight):
        recipe = work / "recipe.yaml"
        recipe.write_text(RECIPE.read_text().replace("weight:        0.90", f"weight:        {weight}", 1))
        command = [lamarck, "build", "-q", recipe, "--models", ancestors, "--cache", ours / "cache", "--out", ours / "out"]
        return measure(command, {}, work)

    scenarios = ["cold", "one weight changed", "nothing changed"]
    rows = {scenario: [] for scenario in scenarios if only in (None, scenario)}
    for number in range(rounds):
        edited = f"0.8{9 - number}"
        for folder in (theirs, ours):
            shutil.rmtree(folder, ignore_errors=True)
        theirs.mkdir()
        for scenario, run_theirs, run_ours in [
            ("cold", lambda: mergekit("0.9"), lambda: build("0.90")),
            ("nothing changed", lambda: mergekit("0.9"), lambda: build("0.90")),
            ("one weight changed", lambda: mergekit(edited, "--no-lazy"), lambda: build(edited)),
        ]:
            if scenario not in rows:
                continue
            pair = []
            for run in (run_theirs, run_ours):
                settle(ancestors)
                pair.append(run())
            rows[scenario].append(pair)
            print(scenario, *(f"{one['wall']:.3f} s" for one in pair), flush=True)
    return rows


def settle(ancestors):
    """Ends what earlier runs left to be written, and has all ancestors in the page cache."""
    os.sync()
    for path in sorted(ancestors.glob("*/*/*.safetensors")):
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass


def measure(command, environment, work):
    """Wall and CPU seconds, peak resident and peak anonymous memory of a command."""
    with open(work / "log.txt", "wb") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], env={**os.environ, **environment}, stdout=log, stderr=log
        )
        anonymous = Sampler(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{(work / 'log.txt').read_text()}")
    return {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "resident": usage.ru_maxrss * 1024,
        "anonymous": anonymous.peak(),
    }


class Sampler:
    """Watches how much anonymous memory a process has."""

    def __init__(self, pid):
        self.path, self.most = Path(f"/proc/{pid}/status"), 0
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while True:
            try:
                found = re.search(r"RssAnon:\s+(\d+)", self.path.read_text())
            except OSError:
                return
            if not found:
                return
            self.most = max(self.most, int(found[1]) * 1024)
            time.sleep(0.01)

    def peak(self):
        self.thread.join()
        return self.most


def converted(text, ancestors):
    """The recipe as mergekit-multi takes it: stages by their bare names, models by their paths, and the `t` of a
    slice, which it would drop, under `parameters`."""
    import yaml

    stages = [stage for stage in yaml.safe_load_all(text) if stage]
    names = {stage["name"] for stage in stages}

    def reference(name):
        last = name.split("/")[-1]
        return last if last in names else name if name == "base" else str(ancestors / name)

    for stage in stages:
        for key in ("base_model", "tokenizer_source"):
            if key in stage:
                stage[key] = reference(stage[key])
        for model in stage.get("models", []):
            model["model"] = reference(model["model"])
        for part in stage.get("slices", []):
            if "t" in part:
                part["parameters"] = {"t": part.pop("t")}
            for source in part["sources"]:
                source["model"] = reference(source["model"])
    return "---\n".join(yaml.safe_dump(stage, sort_keys=False) for stage in stages)


def report(rows, rounds):
    def median(pairs, which, what):
        return statistics.median(pair[which][what] for pair in pairs)

    def seconds(value):
        return f"{value:.0f} s" if value >= 20 else f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"

    print(f"\n{os.cpu_count()} cores, medians of {rounds} runs in turn\n")
    print("| | mergekit-multi " + VERSION + " | CPU | lamarck | CPU | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for scenario, pairs in rows.items():
        walls = [median(pairs, which, "wall") for which in (0, 1)]
        cpus = [seconds(median(pairs, which, "cpu")) for which in (0, 1)]
        ratios = sorted(pair[0]["wall"] / pair[1]["wall"] for pair in pairs)
        spread = f"{walls[0] / walls[1]:.0f}x ({ratios[0]:.0f}-{ratios[-1]:.0f})"
        print(f"| {scenario} | {seconds(walls[0])} | {cpus[0]} | {seconds(walls[1])} | {cpus[1]} | {spread} |")
    print("\n| | mergekit-multi " + VERSION + " | lamarck | ratio |")
    print("| --- | --- | --- | --- |")
    for what, title, unit, digits in [
        ("resident", "peak resident memory, cold", "MB", 0),
        ("anonymous", "of it anonymous", "MB", 0),
    ]:
        values = [median(rows["cold"], which, what) / (1e6 if unit == "MB" else 1) for which in (0, 1)]
        print(f"| {title} | {values[0]:.0f} {unit} | {values[1]:.{digits}f} {unit} | {values[0] / values[1]:.0f}x |")


if __name__ == "__main__":
    main()
