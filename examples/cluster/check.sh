#!/bin/bash
# Starts the tiny example as two ranks under each launcher that is here, and compares the weights with those of one process, byte by byte.
# From the project's folder: examples/cluster/check.sh. TORCHRUN and PYTHON (one with PyPI's ray) name programs elsewhere.
set -euo pipefail
cd "$(dirname "$0")/../.."
TORCHRUN=${TORCHRUN:-torchrun} PYTHON=${PYTHON:-python3}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
train=(node "$PWD/bin/revmoe.mjs" train --model "$PWD/examples/tiny-moe" --train-file "$PWD/examples/moby-dick/train.jsonl" --max-steps 2
  --max-length 64 --per-device-train-batch-size 1 --threads 1 --rank-timeout 60)

"${train[@]}" --gradient-accumulation-steps 2 --output-dir "$out/one" >"$out/one.log" 2>&1 || { cat "$out/one.log"; exit 1; }

same() { # NAME: was run by two ranks, into a folder and a log of that name
  grep -q "ranks: 2," "$out/$1.log" || { echo "$1: did not run as two ranks"; cat "$out/$1.log"; exit 1; }
  cmp "$out/one/final/model.safetensors" "$out/$1/final/model.safetensors"
  echo "$1: same weights as one process"
}
ran() { # NAME COMMAND...: runs it, with its words in a log
  "${@:2}" >"$out/$1.log" 2>&1 || { echo "$1: failed"; cat "$out/$1.log"; exit 1; }
}

if command -v "$TORCHRUN" >/dev/null; then
  # The ranks' own store, for a torchrun with another version of torch than the engine.
  ran torchrun env TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 "$TORCHRUN" --no-python --nproc-per-node 2 "${train[@]}" --output-dir "$out/torchrun"
  same torchrun
else
  echo "torchrun: skipped, $TORCHRUN is not here"
fi

# What srun sets for a step of two tasks on one machine.
slurm() {
  SLURM_JOB_ID=$$ SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=localhost SLURM_PROCID=$1 SLURM_LOCALID=$1 "${train[@]}" --output-dir "$out/slurm"
}
slurm 1 >"$out/slurm-1.log" 2>&1 &
ran slurm slurm 0
wait $! || { cat "$out/slurm-1.log"; exit 1; }
same slurm

if "$PYTHON" -c "import ray" 2>/dev/null; then
  ran ray "$PYTHON" examples/cluster/ray_ranks.py 2 1 "${train[@]}" --output-dir "$out/ray"
  same ray
else
  echo "ray: skipped, $PYTHON has no ray (PyPI)"
fi
