#!/usr/bin/env bash
# Eight minutes on a machine with a GPU: what no CPU can tell. Run in the repository's root, in the
# environment of the project: tests/gpu/check.sh [FOLDER]. Each part has a limit of its own and
# leaves its output in FOLDER (default: gpu_check) as soon as it ends; a part that is stopped by its
# limit (status 124) leaves what it had.
set -u
export PYTHONUNBUFFERED=1
out=${1:-gpu_check}
python=${PYTHON:-python3}
config=configs/SYSU/icre_r50.yml
mkdir -p "$out"
: >"$out/summary.txt"

part() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 begin=$SECONDS
    shift 2
    timeout -s INT -k 5 "$limit" "$@" >"$out/$name.log" 2>&1
    echo "$name: status $?, $((SECONDS - begin)) s of $limit" | tee -a "$out/summary.txt"
    tail -n 4 "$out/$name.log"
}

bench() { # NAME SECONDS BENCHMARK ARGUMENTS...
    local name=$1 limit=$2
    shift 2
    part "$name" "$limit" "$python" tools/benchmark.py "$@" --limit $((limit - 15)) --json "$out/$name.json"
}

nvidia-smi >"$out/machine.txt" 2>&1
"$python" -m pip list >>"$out/machine.txt" 2>/dev/null
part gpu_tests 110 "$python" -m pytest -v -m gpu -p no:cacheprovider --tb=short tests/test_gpu.py
part quick_suite 60 "$python" -m pytest -q -n 8 -p no:cacheprovider --tb=line -m "not slow" tests
modes=()
for mode in inductor cudagraphs reduce-overhead; do modes+=(--variant "SOLVER.COMPILE=$mode"); done
bench modes 130 train --config-file $config --no-stock --steps 12 --rounds 2 "${modes[@]}"
bench profile 45 train --config-file $config configs/SYSU/baseline_r50.yml --no-stock --steps 8 --rounds 1 --profile
bench deterministic 35 train --config-file $config --no-stock --steps 8 --rounds 1 --opts SOLVER.DETERMINISTIC True
bench rerank 50 rerank --device cuda --sizes 1000 10000 100000 1000000 --theirs-up-to 0 --repeat 2
bench search 50 search --device cuda --size 1000 10000 100000 1000000 --kinds ivf --dimensions 256
cat "$out/summary.txt"
