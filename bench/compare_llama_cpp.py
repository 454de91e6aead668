#!/usr/bin/env python3
"""Times cajal and llama.cpp in turn on the same shapes and bits per weight, and prints what cajal is worth of the peer.

  bench/compare_llama_cpp.py [--cajal PATH] [--llama-bench PATH] [--llama-quantize PATH] [--shapes 0.6b,moe-small]
                             [--formats bf16,int8,int4] [--prefill 512] [--decode 32] [--depths 0] [--threads N]
                             [--rounds 3] [--priority "chrt -r 1"] [--work DIR] [--json]

Both get random weights: cajal with --load-format dummy, llama.cpp a GGUF that is written here and quantised by its own
llama-quantize (Q8_0 beside int8, Q4_0 beside int4; groups of 32). In each round the engines run one behind the other, so
that a machine that slows down slows both; the ratio is of the medians. A peer that is absent is said to be absent, and
cajal's own figures with the ceilings are printed all the same. Only the standard library is needed.
"""
import argparse
import json
import os
import pathlib
import random
import shlex
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
VOCAB = 151936
# hidden, layers, heads, kv heads, head_dim, intermediate, tied, (experts, chosen, their intermediate)
SHAPES = {
    "tiny": (256, 2, 4, 2, 64, 512, True, None),
    "0.6b": (1024, 28, 16, 8, 128, 3072, True, None),
    "1.7b": (2048, 28, 16, 8, 128, 6144, True, None),
    "4b": (2560, 36, 32, 8, 128, 9728, True, None),
    "8b": (4096, 36, 32, 8, 128, 12288, False, None),
    "moe-small": (1024, 12, 16, 4, 128, 3072, False, (64, 8, 384)),
}
QUANTIZED = {"bf16": None, "int8": "Q8_0", "int4": "Q4_0"}


def config_of(shape):
    hidden, layers, heads, kv, dim, inner, tied, experts = SHAPES[shape]
    config = {
        "model_type": "qwen3_moe" if experts else "qwen3", "vocab_size": VOCAB, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv, "head_dim": dim, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
        "max_position_embeddings": 40960, "tie_word_embeddings": tied, "torch_dtype": "bfloat16",
        "hidden_act": "silu", "attention_bias": False,
        "architectures": ["Qwen3MoeForCausalLM" if experts else "Qwen3ForCausalLM"]}
    if experts:
        count, chosen, inside = experts
        config.update(num_experts=count, num_experts_per_tok=chosen, moe_intermediate_size=inside,
                      norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[])
    return config


class GgufWriter:
    """A GGUF of version 3: metadata, the list of tensors, and their data behind each other, 32 bytes aligned."""
    U32, F32, STRING = 4, 6, 8
    F32_TENSOR, BF16_TENSOR = (0, 4), (30, 2)

    def __init__(self):
        self.metadata, self.tensors = [], []

    @staticmethod
    def string(text):
        data = text.encode()
        return struct.pack("<Q", len(data)) + data

    def put(self, key, value):
        if isinstance(value, str):
            body = struct.pack("<I", self.STRING) + self.string(value)
        elif isinstance(value, float):
            body = struct.pack("<If", self.F32, value)
        else:
            body = struct.pack("<II", self.U32, value)
        self.metadata.append(self.string(key) + body)

    def tensor(self, name, shape, kind):
        """shape: outermost first, as in PyTorch; the file has them the other way round."""
        self.tensors.append((name, shape, kind))

    def write(self, path):
        noise = random.Random(0)
        # bf16 numbers of magnitude 2^-7..2^-5 and either sign, repeated: what they are does not change the speed.
        block = struct.pack("<1048576H", *(noise.choice((0x3C00, 0xBC00)) | noise.randrange(256)
                                           for _ in range(1 << 20)))
        ones = struct.pack("<f", 1.0) * (1 << 16)
        head, offset = b"", 0
        for name, shape, (code, size) in self.tensors:
            count = 1
            for n in shape:
                count *= n
            head += self.string(name) + struct.pack("<I", len(shape))
            head += b"".join(struct.pack("<Q", n) for n in reversed(shape)) + struct.pack("<IQ", code, offset)
            offset += (count * size + 31) // 32 * 32
        with open(path, "wb") as file:
            file.write(b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata)))
            file.write(b"".join(self.metadata) + head)
            file.write(b"\0" * (-file.tell() % 32))
            for _, shape, kind in self.tensors:
                left = kind[1]
                for n in shape:
                    left *= n
                padding = -left % 32
                source = ones if kind == self.F32_TENSOR else block
                while left:
                    left -= file.write(source[:left])
                file.write(b"\0" * padding)


def write_gguf(shape, path):
    hidden, layers, heads, kv, dim, inner, tied, experts = SHAPES[shape]
    name = "qwen3moe" if experts else "qwen3"
    g = GgufWriter()
    g.put("general.architecture", name)
    for key, value in {"block_count": layers, "context_length": 40960, "embedding_length": hidden,
                       "feed_forward_length": inner, "attention.head_count": heads, "attention.head_count_kv": kv,
                       "attention.key_length": dim, "attention.value_length": dim, "vocab_size": VOCAB,
                       "rope.freq_base": 1e6, "attention.layer_norm_rms_epsilon": 1e-6}.items():
        g.put(f"{name}.{key}", value)
    if experts:
        g.put(f"{name}.expert_count", experts[0])
        g.put(f"{name}.expert_used_count", experts[1])
        g.put(f"{name}.expert_feed_forward_length", experts[2])
    g.put("tokenizer.ggml.model", "no_vocab")
    weight, norm = g.BF16_TENSOR, g.F32_TENSOR
    g.tensor("token_embd.weight", (VOCAB, hidden), weight)
    g.tensor("output_norm.weight", (hidden,), norm)
    if not tied:
        g.tensor("output.weight", (VOCAB, hidden), weight)
    for layer in range(layers):
        block = f"blk.{layer}."
        for key, dims in (("attn_norm", (hidden,)), ("ffn_norm", (hidden,)), ("attn_q_norm", (dim,)),
                          ("attn_k_norm", (dim,))):
            g.tensor(block + key + ".weight", dims, norm)
        matrices = [("attn_q", (heads * dim, hidden)), ("attn_k", (kv * dim, hidden)), ("attn_v", (kv * dim, hidden)),
                    ("attn_output", (hidden, heads * dim))]
        if experts:
            count, _, inside = experts
            g.tensor(block + "ffn_gate_inp.weight", (count, hidden), norm)
            matrices += [("ffn_gate_exps", (count, inside, hidden)), ("ffn_up_exps", (count, inside, hidden)),
                         ("ffn_down_exps", (count, hidden, inside))]
        else:
            matrices += [("ffn_gate", (inner, hidden)), ("ffn_up", (inner, hidden)), ("ffn_down", (hidden, inner))]
        for key, dims in matrices:
            g.tensor(block + key + ".weight", dims, weight)
    g.write(path)


def run(command, what):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{what} failed ({done.returncode}): {shlex.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout


class Llama:
    """llama.cpp: a llama-bench, and a llama-quantize beside it for the quantised rows."""

    def __init__(self, options):
        self.bench = options.llama_bench or shutil.which("llama-bench")
        beside = pathlib.Path(self.bench).with_name("llama-quantize") if self.bench else None
        self.quantize = options.llama_quantize or shutil.which("llama-quantize") or (
            str(beside) if beside and beside.exists() else None)
        self.options = options
        self.build = ""

    def absent(self, kind):
        if not self.bench or not pathlib.Path(self.bench).exists():
            return "absent: no llama-bench on the path, name it with --llama-bench"
        if QUANTIZED[kind] and not self.quantize:
            return "absent: no llama-quantize beside llama-bench, name it with --llama-quantize"
        return ""

    def model(self, shape, kind, work):
        plain = work / f"{shape}-bf16.gguf"
        if not plain.exists():
            write_gguf(shape, plain)
        if not QUANTIZED[kind]:
            return plain
        path = work / f"{shape}-{QUANTIZED[kind]}.gguf"
        if not path.exists():
            run([self.quantize, str(plain), str(path), QUANTIZED[kind], str(self.options.threads)], "llama-quantize")
        return path

    def measure(self, path, case):
        prompt, generated, depth = case
        command = shlex.split(self.options.priority) + [
            self.bench, "-m", str(path), "-t", str(self.options.threads), "-p", str(prompt), "-n", str(generated), "-d",
            str(depth), "-r", "1", "-o", "json"]
        rows = json.loads(run(command, "llama-bench"))
        row = next(r for r in rows if r["n_prompt"] == prompt and r["n_gen"] == generated)
        self.build = f"{row.get('build_commit', '?')} ({row.get('build_number', '?')}), {row.get('backends', '?')}"
        return row["avg_ts"]

    def flags(self):
        """The build's own CMake cache, where the program still lies in its build folder."""
        cache = pathlib.Path(self.bench).resolve().parent.parent / "CMakeCache.txt"
        if not cache.exists():
            return "build flags unknown: no CMakeCache.txt near the program"
        wanted = ("CMAKE_BUILD_TYPE", "GGML_NATIVE", "GGML_OPENMP", "GGML_LLAMAFILE", "GGML_CPU_REPACK", "GGML_BLAS")
        found = [line for line in cache.read_text(errors="replace").splitlines()
                 if line.split(":")[0] in wanted]
        return ", ".join(line.split(":")[0] + "=" + line.split("=", 1)[1] for line in found)


def measure_cajal(options, folder, kind, case):
    prompt, generated, depth = case
    command = shlex.split(options.priority) + [
        options.cajal, "bench", str(folder), "--device", "cpu", "--load-format", "dummy", "--threads",
        str(options.threads), "-p", str(prompt), "-n", str(generated), "-d", str(depth), "-r", "1", "--quantization",
        "none" if kind == "bf16" else kind, "--json"]
    report = json.loads(run(command, "cajal bench"))
    row = next(r for r in report["results"] if r["n_prompt"] == prompt and r["n_gen"] == generated)
    return row["tokens_per_s"]["median"], row["percent_of_ceiling"], report["ceilings"]


def rows_of(options, llama, work):
    """One line a shape, format and case, as a dictionary."""
    for shape in options.shapes:
        folder = work / shape
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config_of(shape)))
        for kind in options.formats:
            absent = llama.absent(kind)
            path = None if absent else llama.model(shape, kind, work)
            for case in [(n, 0, d) for n in options.prefill for d in options.depths] + [
                    (0, n, d) for n in options.decode for d in options.depths]:
                ours, theirs, percents, ceilings = [], [], [], []
                for _ in range(options.rounds):
                    speed, percent, ceiling = measure_cajal(options, folder, kind, case)
                    ours.append(speed), percents.append(percent), ceilings.append(ceiling)
                    if path:
                        theirs.append(llama.measure(path, case))
                best = {key: max(c[key] for c in ceilings) for key in ceilings[0]}
                yield {"shape": shape, "format": kind, "n_prompt": case[0], "n_gen": case[1], "depth": case[2],
                       "cajal": statistics.median(ours), "percent_of_ceiling": statistics.median(percents),
                       "llama_cpp": statistics.median(theirs) if theirs else None,
                       "ratio": statistics.median(ours) / statistics.median(theirs) if theirs else None,
                       "absent": absent, "ceilings": best}


def print_row(row):
    test = f"prefill {row['n_prompt']}" if row["n_prompt"] else f"decode {row['n_gen']}"
    if row["depth"]:
        test += f" at {row['depth']}"
    peer = f"{row['llama_cpp']:>10.1f} {row['ratio']:>6.2f}x" if row["ratio"] else "    absent       -"
    c = row["ceilings"]
    peaks = ", ".join(f"{key.split('_')[0]} {value:.2f}" for key, value in c.items() if value)
    print(f"{row['shape']:<10} {row['format']:<5} {test:<22} {row['cajal']:>9.1f} {peer} "
          f"{row['percent_of_ceiling']:>5.0f}   {peaks}", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    words = lambda text: [w for w in text.split(",") if w]
    numbers = lambda text: [int(w) for w in words(text) if int(w) >= 0]
    parser.add_argument("--cajal", default=str(ROOT / "build/release/cajal"))
    parser.add_argument("--llama-bench", help="default: the one on the path")
    parser.add_argument("--llama-quantize", help="default: beside llama-bench")
    parser.add_argument("--shapes", type=words, default=["0.6b"])
    parser.add_argument("--formats", type=words, default=list(QUANTIZED))
    parser.add_argument("--prefill", type=numbers, default=[512])
    parser.add_argument("--decode", type=numbers, default=[32])
    parser.add_argument("--depths", type=numbers, default=[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--priority", default="", help='a command in front of both engines, as in "chrt -r 1"')
    parser.add_argument("--work", help="where GGUF files are kept; default: a temporary folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for given, known, what in ((options.shapes, SHAPES, "shape"), (options.formats, QUANTIZED, "format")):
        for word in given:
            if word not in known:
                parser.error(f"{what} '{word}' is unknown, expected one of {', '.join(known)}")
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    if not pathlib.Path(options.cajal).exists():
        parser.error(f"{options.cajal} is not there: run make, or name it with --cajal")
    return options


def main():
    options = parse_arguments()
    llama = Llama(options)
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(options.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        if not options.json:
            print("shape      format test                       cajal  llama.cpp   ratio  % of ceiling; ceilings "
                  "(read GB/s, TFLOP/s or TOPS)")
        rows = []
        for row in rows_of(options, llama, work):
            rows.append(row)
            if not options.json:
                print_row(row)
        peer = llama.absent("bf16") or f"llama.cpp {llama.build}; {llama.flags()}"
        if options.json:
            print(json.dumps({"peer": peer, "threads": options.threads, "rounds": options.rounds, "results": rows}))
        else:
            print(f"\ntokens/s, medians of {options.rounds} rounds of both in turn, {options.threads} threads. {peer}")


if __name__ == "__main__":
    main()
