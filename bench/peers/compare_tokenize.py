"""Tokenising speed of Fairway beside the SentencePiece Python package, on the same text in one run.

How to run (the package is only needed for this comparison):
    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install sentencepiece
    cmake --build build --target bench_tokenize
    /tmp/peers/bin/python bench/peers/compare_tokenize.py build/bin/bench_tokenize MODEL FILE.jsonl[.gz|.xz]... [--repeats 3]

Both sides get whole documents already in memory and give all ids; reading and decompression are not timed. The
package is measured one document at a time (its ordinary use) and as a batch over threads. Each line is the best of
the repeats; the token counts (one BOS a document on both sides) must agree.
"""

import argparse
import gzip
import json
import lzma
import os
import subprocess
import time

import sentencepiece


def read(path):
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(os.path.splitext(path)[1], open)
    with opener(path, "rt", encoding="utf-8", newline="\n") as file:
        return [json.loads(line)["text"] for line in file]


def best(repeats, work):
    seconds, tokens = [], 0
    for _ in range(repeats):
        start = time.perf_counter()
        tokens = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), tokens


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("model")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    documents = [text for path in args.files for text in read(path)]
    size = sum(len(text.encode()) for text in documents)
    cores = len(os.sched_getaffinity(0))
    counts = set()

    def report(name, threads, seconds, tokens):
        counts.add(tokens)
        print(f"{name:<34} {threads:>2} threads  {seconds:8.3f} s  {size / 1e6 / seconds:8.2f} MB/s  {tokens} tokens")

    package = sentencepiece.SentencePieceProcessor(model_file=args.model)
    label = f"sentencepiece {sentencepiece.__version__}"
    print(f"{len(documents)} documents, {size} bytes, {cores} cores")
    report(label, 1, *best(args.repeats, lambda: sum(1 + len(package.encode(text)) for text in documents)))
    for threads in sorted({1, cores}):
        work = lambda: sum(1 + len(ids) for ids in package.encode(documents, num_threads=threads))
        report(f"{label}, batch", threads, *best(args.repeats, work))
    for threads in sorted({1, cores}):
        runs = []
        for _ in range(args.repeats):
            out = subprocess.run([args.bench, args.model, str(threads), *args.files], check=True, capture_output=True, text=True)
            runs.append(json.loads(out.stdout))
        report("fairway", threads, min(run["seconds"] for run in runs), runs[0]["tokens"])
    assert len(counts) == 1, f"token counts differ: {counts}"


if __name__ == "__main__":
    main()
