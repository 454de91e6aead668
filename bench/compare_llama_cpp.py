#!/usr/bin/env python3
"""Times cajal, llama.cpp and ik_llama.cpp in turn on the same shapes and bits per weight, and prints their ratios.

  bench/compare_llama_cpp.py [--all] [--cajal PATH] [--llama-bench PATH] [--ik-bench PATH] [--llama-quantize PATH]
                             [--shapes 0.6b,moe-small] [--formats bf16,int8,int4] [--prefill 512] [--decode 32]
                             [--depths 0] [--busy] [--threads N] [--rounds 3] [--repeats 1] [--head q8_0] [--work DIR]
                             [--json]
                             [--priority "chrt -r 1"]

All get random weights: cajal with --load-format dummy, the others a GGUF that is written here and quantised by
llama.cpp's llama-quantize: Q8_0 beside int8, Q4_0 beside int4, in groups of 32. Embeddings and head have 8 bits in cajal's
int4, so theirs are Q8_0; --head q6_k is what llama-quantize does by itself, with fewer bytes to read. bf16 stands beside
lossless too, whose results have the same bits. int8-128 and int4-128 are cajal's groups of 128, which peers do not have. cajal's
groups of 32 take 8.25 and 4.25 bits a weight, those of 128 8.06 and 4.06, and its peers' 8.5 and 4.5.

In each round the engines run one behind the other, so that a machine that slows down slows all; a ratio is the median of
those within one round, and behind it stands that of the best repetitions. A virtual machine whose processors are moved
about, now on one core or chiplet and now on two, reads memory at two or three different rates. So the rate is measured before
and after each engine, and "alike" is the median ratio of the rounds in which all four rates of a pair of engines lie within
a quarter of each other, with the rate in GB/s and their number: 1.40@38 (6) 2.10@68 (3). --decode 16 --repeats 50 asks each
engine often enough that the best repetitions of all are of the highest rate. --busy measures each test once more with a
process that does nothing but count on every core, and prints what is left of the speed. Real-time priority (--priority)
keeps other work away, but Linux stops what has it for 50 ms of every second (sched_rt_runtime_us): leave it out where
nothing else runs.

--all is the table of docs/performance.md: about half an hour on two cores, most of it peers that fill 32,768 positions. A
peer that is absent is said to be absent, and cajal's own figures with the ceilings are printed all the same.
Only the standard library is needed.
"""
import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile

from dummy_models import SHAPES, config_of, write_gguf

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUANTIZED = {"bf16": None, "lossless": None, "int8": "Q8_0", "int4": "Q4_0", "int8-128": "Q8_0", "int4-128": "Q4_0"}
EQUAL_BITS = ["bf16", "lossless", "int8", "int4"]


@dataclasses.dataclass(frozen=True)
class Job:
    """What one start of each engine measures: a prompt, tokens behind it, or both, each on its own."""
    shape: str
    format: str
    prompt: int = 512
    generated: int = 32
    depth: int = 0
    rounds: int = 3
    busy: bool = False

    def tests(self):
        return [(n, 0) for n in (self.prompt,) if n] + [(0, n) for n in (self.generated,) if n]


def run(command, what):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{what} failed ({done.returncode}): {shlex.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout


class Cajal:
    name = "cajal"

    def __init__(self, options):
        self.options = options
        self.ceilings, self.percents = {}, {}

    def absent(self, _):
        return ""

    def command(self, job, work):
        folder = work / job.shape
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config_of(job.shape)))
        kind, _, group = job.format.partition("-")
        return shlex.split(self.options.priority) + [
            self.options.cajal, "bench", str(folder), "--device", "cpu", "--load-format", "dummy", "--threads",
            str(self.options.threads), "-p", str(job.prompt), "-n", str(job.generated), "-d", str(job.depth), "-r",
            str(self.options.repeats), "--quantization", "none" if kind == "bf16" else kind,
            *(["--quantization-group-size", group] if group else []), "--json"]

    def read_rate(self, work):
        """Bytes a second that memory gives now, as the ceilings of a benchmark of next to nothing."""
        folder = work / "tiny"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config_of("tiny")))
        report = run([self.options.cajal, "bench", str(folder), "--device", "cpu", "--load-format", "dummy", "--threads",
                      str(self.options.threads), "-p", "1", "-n", "0", "-r", "1", "--json"], self.name)
        return json.loads(report)["ceilings"]["read_gb_per_s"]

    def speeds(self, output, busy):
        """Tokens a second of each test, as its median and its best; notes what the machine was measured to be able to."""
        report = json.loads(output)
        rows = {(r["n_prompt"], r["n_gen"]): r for r in report["results"]}
        if not busy:
            for key, value in report["ceilings"].items():
                self.ceilings[key] = max(self.ceilings.get(key, 0), value)
            for test, row in rows.items():
                self.percents.setdefault(test, []).append(row["percent_of_ceiling"])
        return {test: (row["tokens_per_s"]["median"], row["tokens_per_s"]["max"]) for test, row in rows.items()}


class Llama:
    """llama.cpp or a fork of it: a llama-bench that reads what llama.cpp's llama-quantize has written."""

    def __init__(self, options, name, bench, flags):
        self.options, self.name, self.bench, self.extra = options, name, bench, flags
        beside = pathlib.Path(options.llama_bench).with_name("llama-quantize") if options.llama_bench else None
        self.quantize = options.llama_quantize or (str(beside) if beside and beside.exists() else None)
        self.build = ""

    def absent(self, kind):
        if not self.bench or not pathlib.Path(self.bench).exists():
            return self.how_to_name()
        if QUANTIZED[kind] and not self.quantize:
            return f"{self.name} is absent for {kind}: no llama-quantize beside llama-bench, name it with --llama-quantize"
        return ""

    def how_to_name(self):
        program, flag = ("llama-bench", "--llama-bench") if self.name == "llama.cpp" else ("ik-llama-bench", "--ik-bench")
        return f"{self.name} is absent: no {program} on the path, name one with {flag}"

    def command(self, job, work):
        plain = work / f"{job.shape}-bf16.gguf"
        if not plain.exists():
            write_gguf(job.shape, plain)
        path = plain
        if QUANTIZED[job.format]:
            path = work / f"{job.shape}-{QUANTIZED[job.format]}-{self.options.head}.gguf"
            if not path.exists():
                head = ["--token-embedding-type", self.options.head, "--output-tensor-type", self.options.head]
                run([self.quantize, *head, str(plain), str(path), QUANTIZED[job.format], str(self.options.threads)],
                    "llama-quantize")
        tests = ["-p", str(job.prompt), "-n", str(job.generated)]
        if job.depth and self.name == "llama.cpp":
            tests += ["-d", str(job.depth)]
        elif job.depth:
            tests = ["-p", "0", "-n", "0", "-gp", f"{job.depth},{job.generated}"]  # the fork's word for depth
        return shlex.split(self.options.priority) + [
            self.bench, "-m", str(path), "-t", str(self.options.threads), *tests, "-r", str(self.options.repeats), "-o",
            "json", *self.extra]

    def speeds(self, output, _):
        # The fork's runs behind a filled cache say in "test" what they are, and count the filled positions as a prompt.
        speeds = {}
        for row in json.loads(output):
            deep = row.get("test", "").startswith("tg") and "@" in row["test"]
            samples = row.get("samples_ts") or [row["avg_ts"]]
            speeds[(0 if deep else row["n_prompt"], row["n_gen"])] = (statistics.median(samples), max(samples))
            self.build = f"{row.get('build_commit', '?')} ({row.get('build_number', '?')})"
        return speeds

    def description(self):
        return self.absent("bf16") or f"{self.name}: build {self.build}; {self.flags()}"

    def flags(self):
        """The build's own CMake cache, where the program still lies in its build folder."""
        cache = pathlib.Path(self.bench).resolve().parent.parent / "CMakeCache.txt"
        if not cache.exists():
            return "build flags unknown: no CMakeCache.txt near the program"
        wanted = ("CMAKE_BUILD_TYPE", "GGML_NATIVE", "GGML_OPENMP", "GGML_LLAMAFILE", "GGML_CPU_REPACK", "GGML_BLAS")
        found = [line for line in cache.read_text(errors="replace").splitlines()
                 if line.split(":")[0] in wanted]
        return ", ".join(line.split(":")[0] + "=" + line.split("=", 1)[1] for line in found)


# Rates of memory that differ by no more than this are one.
ALIKE = 1.25

# Counts for as long as its parent lives, so that one that is killed leaves no core busy.
COUNT = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1000000): pass"


@contextlib.contextmanager
def busy_cores(priority):
    """On every core that this process may use, a process that wants all of it."""
    counting = []
    try:
        for core in sorted(os.sched_getaffinity(0)):
            counting.append(subprocess.Popen(
                shlex.split(priority) + [sys.executable, "-c", COUNT],
                preexec_fn=lambda core=core: os.sched_setaffinity(0, {core})))
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()


def measure(job, engines, commands, priority, read_rate):
    """(median, best, rates of memory before and after) by (engine, test, busy): a list of one of each round."""
    speeds = {}
    for _ in range(job.rounds):
        before = read_rate()
        for engine in engines:
            for busy in (False, True) if job.busy else (False,):
                with busy_cores(priority) if busy else contextlib.nullcontext():
                    output = run(commands[engine.name], engine.name)
                after = read_rate()
                for test, speed in engine.speeds(output, busy).items():
                    speeds.setdefault((engine.name, test, busy), []).append((*speed, (before, after)))
                before = after
    return speeds


def alike_rounds(ratios, rates, others):
    """Of the rounds in which memory was as fast for the one as for the other: the median ratio at each rate, slowest first."""
    rounds = sorted((statistics.mean(own + other), ratio) for ratio, own, other in zip(ratios, rates, others)
                    if max(own + other) <= ALIKE * min(own + other))
    groups = []
    for rate, ratio in rounds:
        if not groups or rate > ALIKE * groups[-1][0][0]:
            groups.append([])
        groups[-1].append((rate, ratio))
    return [{"read_gb_per_s": statistics.median(rate for rate, _ in group), "rounds": len(group),
             "ratio": statistics.median(ratio for _, ratio in group)} for group in groups]


def rows_of(job, cajal, peers, work, priority):
    """One row a test, as a dictionary."""
    cajal.ceilings, cajal.percents = {}, {}
    absent = {peer.name: peer.absent(job.format) for peer in peers if peer.absent(job.format)}
    engines = [cajal] + [peer for peer in peers if peer.name not in absent]
    commands = {engine.name: engine.command(job, work) for engine in engines}
    speeds = measure(job, engines, commands, priority, lambda: cajal.read_rate(work))
    for test in job.tests():
        row = {**dataclasses.asdict(job), "prompt": test[0], "generated": test[1], "tokens_per_s": {}, "best": {},
               "ratio": {}, "best_ratio": {}, "rounds_of": {}, "read_gb_per_s": {}, "alike": {}, "kept": {},
               "percent_of_ceiling": statistics.median(cajal.percents[test]), "ceilings": cajal.ceilings,
               "absent": absent, "commands": {name: shlex.join(words) for name, words in commands.items()}}
        for engine in engines:
            if (engine.name, test, False) not in speeds:
                continue  # the fork measures no prompts behind a filled cache
            rounds, best, rates = zip(*speeds[engine.name, test, False])
            row["read_gb_per_s"][engine.name] = rates
            row["best"][engine.name] = max(best)
            row["rounds_of"][engine.name] = rounds
            speed = row["tokens_per_s"][engine.name] = statistics.median(rounds)
            if engine is not cajal:
                ratios = [own / other for own, other in zip(row["rounds_of"][cajal.name], rounds)]
                row["ratio"][engine.name] = statistics.median(ratios)
                row["alike"][engine.name] = alike_rounds(ratios, row["read_gb_per_s"][cajal.name], rates)
                row["best_ratio"][engine.name] = row["best"][cajal.name] / max(best)
            if job.busy:
                row["kept"][engine.name] = statistics.median(s for s, *_ in speeds[engine.name, test, True]) / speed
        yield row


def print_row(row, peers):
    test = f"prefill {row['prompt']}" if row["prompt"] else f"decode {row['generated']}"
    if row["depth"]:
        test += f" at {row['depth']}"
    columns = ""
    for peer in peers:
        speed = row["tokens_per_s"].get(peer.name)
        if not speed:
            columns += f"{'absent' if peer.name in row['absent'] else '-':>14}     - {'-':>24}     -"
            continue
        alike = " ".join(f"{a['ratio']:.2f}@{a['read_gb_per_s']:.0f} ({a['rounds']})" for a in row["alike"][peer.name])
        columns += f"{speed:>14.1f} {row['ratio'][peer.name]:>5.2f} {alike or '-':>24} {row['best_ratio'][peer.name]:>5.2f}"
    peaks = ", ".join(f"{key.split('_')[0]} {value:.2f}" for key, value in row["ceilings"].items() if value)
    print(f"{row['shape']:<10} {row['format']:<8} {test:<20} {row['tokens_per_s']['cajal']:>8.1f} {columns} "
          f"{row['percent_of_ceiling']:>5.0f}   {peaks}", flush=True)
    if row["kept"]:
        print(" " * 17 + "with busy cores, kept: " +
              ", ".join(f"{name} {share:.0%}" for name, share in row["kept"].items()), flush=True)


def all_jobs(rounds):
    """The table of docs/performance.md. Long contexts take peers minutes to fill, so they are measured once."""
    for shape in ("0.6b", "1.7b", "moe-small"):
        for kind in EQUAL_BITS:
            yield Job(shape, kind, rounds=rounds, busy=shape == "0.6b" and kind in ("bf16", "int4"))
    yield Job("0.6b", "bf16", prompt=0, depth=8192, rounds=1)
    yield Job("0.6b", "bf16", prompt=0, depth=32768, generated=16, rounds=1)


def chosen_jobs(options):
    if options.all:
        return list(all_jobs(options.rounds))
    return [Job(shape, kind, prompt, generated, depth, options.rounds, options.busy)
            for shape in options.shapes for kind in options.formats for depth in options.depths
            for prompt, generated in pairs(options.prefill, options.decode)]


def pairs(prompts, generated):
    """Both lists side by side, the shorter filled up with none."""
    longest = max(len(prompts), len(generated))
    fill = lambda values: values + [0] * (longest - len(values))
    return zip(fill(prompts), fill(generated))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    words = lambda text: [w for w in text.split(",") if w]
    numbers = lambda text: [int(w) for w in words(text) if int(w) >= 0]
    parser.add_argument("--all", action="store_true", help="the whole table; --shapes to --busy are not looked at")
    parser.add_argument("--cajal", default=str(ROOT / "build/release/cajal"))
    parser.add_argument("--llama-bench", default=shutil.which("llama-bench"), help="default: the one on the path")
    parser.add_argument("--ik-bench", default=shutil.which("ik-llama-bench"),
                        help="ik_llama.cpp's llama-bench; default: an ik-llama-bench on the path")
    parser.add_argument("--llama-quantize", default=shutil.which("llama-quantize"), help="default: beside llama-bench")
    parser.add_argument("--shapes", type=words, default=["0.6b"])
    parser.add_argument("--formats", type=words, default=EQUAL_BITS)
    parser.add_argument("--prefill", type=numbers, default=[512])
    parser.add_argument("--decode", type=numbers, default=[32])
    parser.add_argument("--depths", type=numbers, default=[0])
    parser.add_argument("--busy", action="store_true", help="measure with all cores in use by others, too")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1, help="of every test each time that an engine is started")
    parser.add_argument("--head", default="q8_0", help="the peers' type of embeddings and head, where weights are quantised")
    parser.add_argument("--priority", default="",
                        help='a command in front of all engines and of what keeps cores busy, as in "chrt -r 1"')
    parser.add_argument("--work", help="where GGUF files are kept; default: a temporary folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for given, known, what in ((options.shapes, SHAPES, "shape"), (options.formats, QUANTIZED, "format")):
        for word in given:
            if word not in known:
                parser.error(f"{what} '{word}' is unknown, expected one of {', '.join(known)}")
    if options.rounds < 1 or options.repeats < 1 or options.threads < 1:
        parser.error("--rounds, --repeats and --threads are at least 1")
    if not pathlib.Path(options.cajal).exists():
        parser.error(f"{options.cajal} is not there: run make, or name it with --cajal")
    return options


def main():
    options = parse_arguments()
    cajal = Cajal(options)
    # Repacking when it loads is what makes the fork's kernels fast on CPUs.
    peers = [Llama(options, "llama.cpp", options.llama_bench, []),
             Llama(options, "ik_llama.cpp", options.ik_bench, ["-rtr", "1"])]
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(options.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        if not options.json:
            print(f"{'shape':<10} {'format':<8} {'test':<20} {'cajal':>8} " +
                  "".join(f"{peer.name:>14} ratio {'alike@GB/s (n)':>24}  best" for peer in peers) +
                  "  % of ceiling; ceilings (read GB/s, TFLOP/s or TOPS)")
        rows = []
        for job in chosen_jobs(options):
            for row in rows_of(job, cajal, peers, work, options.priority):
                rows.append(row)
                if not options.json:
                    print_row(row, peers)
    described = [peer.description() for peer in peers]
    described += sorted({why for row in rows for why in row["absent"].values()} - set(described))
    if options.json:
        print(json.dumps({"peers": described, "threads": options.threads, "results": rows}))
        return
    print(f"\ntokens/s, medians of {options.rounds} rounds of all in turn (long contexts: of one), {options.threads} threads. "
          "ratio: median of those within a round; alike: of the n rounds in which both met memory of that rate; best: of the "
          "best repetitions.")
    print("\n".join(described + ["commands:"] + list(dict.fromkeys(c for row in rows for c in row["commands"].values()))))


if __name__ == "__main__":
    main()
