#!/usr/bin/env python3
"""Which functions a record's way costs most in, each per record of 100 B.

  benches/profile.py instructions [ROWS]   by callgrind, of the stages of benches/instructions.rs
  benches/profile.py time [ROWS]           by perf, of a whole producer that `kpl-bench` fills, with an endpoint beside it

A function's row is what it does itself, with what was inlined into it. Which functions those are the compiler decides anew
for each program, so that the two tables name not quite the same ones.
"""

import collections
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
OUT = os.path.join(TARGET, "profile")
# `encode` and `route` are parts of the others.
STAGES = ["put", "accept", "send", "settle"]
SAMPLES_PER_S = 2000
RECORDS = 3_000_000


def own_costs(path):
    """Instructions of each function itself, from a file of callgrind's: names are said once, then numbered."""
    names, costs = {}, collections.Counter()
    function, is_call = None, False
    with open(path, encoding="utf-8") as file:
        for line in file:
            if found := re.match(r"c?fn=\((\d+)\)(?: (.*))?", line):
                number, name = found.groups()
                if name:
                    names[number] = name
                if line.startswith("fn="):
                    function = names[number]
            elif line.startswith("calls="):
                is_call = True
            elif function and (found := re.match(r"[+*-]?\d* (\d+)$", line)):
                # The line after `calls=` is what was called cost.
                if not is_call:
                    costs[function] += int(found.group(1))
                is_call = False
    return costs


def short(name):
    """A name without its module's path, and without what it is generic over."""
    name = re.sub(r"<impl ([\w:]+)>", lambda found: found.group(1).rsplit("::", 1)[-1], name)
    name = re.sub(r"<[^<>]*>", "", name)
    parts = name.split("::")
    return "::".join(parts[-3:] if parts[-1].startswith("{{") else parts[-2:])


def table(head, rows, count):
    total = sum(cost for _, cost, _ in rows)
    print(f"| function | {head} | part | where |\n|---|---|---|---|")
    for name, cost, where in rows[:count]:
        print(f"| `{short(name)}` | {cost:.1f} | {cost / total:.0%} | {where} |")
    rest = sum(cost for _, cost, _ in rows[count:])
    print(f"| all others | {rest:.1f} | {rest / total:.0%} | |\n| together | {total:.1f} | | |")


def instructions(count):
    subprocess.run([os.path.join(ROOT, ".ci", "instructions"), "--keep", OUT], stdout=sys.stderr)
    with open(os.path.join(OUT, "records.json"), encoding="utf-8") as file:
        records = json.load(file)
    costs, stages = collections.Counter(), collections.defaultdict(list)
    for stage in STAGES:
        for name, cost in own_costs(os.path.join(OUT, f"callgrind.{stage}")).items():
            costs[name] += cost / records[stage]
            if cost / records[stage] >= 1:
                stages[name].append(stage)
    table("instructions", [(name, cost, ", ".join(stages[name])) for name, cost in costs.most_common()], count)


def time(count):
    subprocess.run(["cargo", "build", "--release", "-p", "kpl-bench"], cwd=ROOT, check=True, stdout=sys.stderr)
    os.makedirs(OUT, exist_ok=True)
    data, figures = os.path.join(OUT, "perf.data"), os.path.join(OUT, "kpl-bench.json")
    bench = [os.path.join(TARGET, "release", "kpl-bench"), "--sink", "--no-verify", "--shards", "8"]
    bench += ["--records", str(RECORDS), "--runtime", "tokio", "--submitters", "1", "--json", figures]
    record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_S), "-o", data, "--", *bench]
    subprocess.run(record, check=True, stdout=sys.stderr)
    script = ["perf", "script", "-i", data, "-F", "comm,ip,sym"]
    samples = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    costs, threads = collections.Counter(), {}
    for line in samples.splitlines():
        comm, _, name = (line.split(None, 2) + ["?"])[:3]
        # The core, and the submitter with what the bench itself does for it.
        if comm.startswith("kpl-core"):
            costs[name] += 1e9 / SAMPLES_PER_S / RECORDS
            threads[name] = comm
    table("ns", [(name, cost, threads[name]) for name, cost in costs.most_common()], count)
    with open(figures, encoding="utf-8") as file:
        figures = json.load(file)
    print(f"\n{figures['records_per_s']:.0f} records/s; {figures['client_cpu_ns_per_record']:.0f} ns of CPU each, submitter included")


def main():
    modes = {"instructions": instructions, "time": time}
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in modes:
        sys.exit(__doc__)
    modes[sys.argv[1]](int(sys.argv[2]) if len(sys.argv) == 3 else 10)


main()
