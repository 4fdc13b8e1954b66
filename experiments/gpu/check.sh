#!/usr/bin/env bash
# All checks for a machine with a card, in one command of at most eight minutes: builds, doctor, kernel tests, equal
# bits, plans compared with measurements, the table of steps, where the GPU's time goes.
#   experiments/gpu/check.sh [--cpu] [--theirs]
# Each part has a time limit and runs even if another fails; then the exit code is 1. Results are files in $OUT, else in
# runs/gpu-check; summary.md is the short form. --theirs adds transformers' rows, if Python has it. --cpu tries the same
# parts except the profile on a CPU, with small sizes and more time. Needs Node.js, g++, libtorch with CUDA (PyPI's
# torch), node_modules and dist/; for Node.js, node_modules and dist/, the files that carry.sh packed will do.
set -uo pipefail
cd "$(dirname "$0")/../.."
budget=470 slack=1 # seconds in all; factor for each part's limit
device=cuda theirs=
for word in "$@"; do
  case $word in
    --cpu) device=cpu slack=4 budget=1900 ;;
    --theirs) theirs=yes ;;
    *) echo "check.sh: $word is not known (expected --cpu or --theirs)" >&2; exit 2 ;;
  esac
done
out=$(realpath -m "${OUT:-runs/gpu-check}")
mkdir -p "$out"
rm -f "$out"/{summary.md,doctor.json,{build,kernels,bits,grid,ranks}.log,{table,profile}.md}
summary=$out/summary.md
failures=0

if ! command -v node >/dev/null && [[ -f build/carried/node.xz ]]; then
  mkdir -p build/carried/bin
  xz -dc build/carried/node.xz >build/carried/bin/node && chmod +x build/carried/bin/node
  export PATH=$PWD/build/carried/bin:$PATH
fi
[[ -d dist && -d node_modules ]] || tar -xJf build/carried/tree.tar.xz || exit 1

{
  echo "# $(git log -1 --format='%h %s' 2>/dev/null || echo 'no git here'), $(date -u '+%F %H:%M') UTC, on $device"
  echo
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null
  echo "Node.js $(node --version), $(nproc) cores"
  echo
  echo "| part | result | s |"
  echo "| --- | --- | ---: |"
} | tee "$summary"

# part NAME LIMIT FILE COMMAND...: appends its output to FILE; its result becomes a row.
part() {
  local name=$1 limit=$2 file=$out/$3 began=$SECONDS left=$((budget - SECONDS)) code result
  shift 3
  limit=$((limit * slack))
  ((limit > left)) && limit=$left
  if ((limit < 5)); then
    result="no time was left" code=1
  else
    timeout --kill-after=5 "$limit" "$@" >>"$file" 2>&1
    code=$?
    case $code in
      0) result=right ;;
      124 | 137) result="**stopped after $limit s**" ;;
      *) result="**failed**, exit code $code: $(basename "$file")" ;;
    esac
    local counts
    counts=$(grep -aoE '^ℹ (pass|fail|skipped) [0-9]+' "$file" | sed 's/ℹ //' | tail -3 | paste -sd, -)
    ((code == 124 || code == 137)) && [[ $file == *.log ]] && counts="$(grep -ac '^ *✔' "$file") passed until then"
    [[ -n $counts ]] && result+=" ($counts)"
  fi
  ((code == 0)) || failures=$((failures + 1))
  echo "| $name | $result | $((SECONDS - began)) |" | tee -a "$summary"
}

# tests NAME LIMIT FILE TEST...: runs them on the device.
tests() {
  local name=$1 limit=$2 file=$3
  shift 3
  REVMOE_TEST_DEVICE=$device part "$name" "$limit" "$file" \
    node --test --test-reporter=spec --test-concurrency="$((($(nproc) + 1) / 2))" "$@"
}

steps() {
  local name=$1 limit=$2 file=$3
  shift 3
  local sizes=()
  [[ $device == cpu ]] && sizes=(--layers 1 --experts 4 --tokens 64 --rows 1 --steps 2 --vocabulary 4096)
  part "$name" "$limit" "$file" node experiments/frontier/gpu.mjs --device "$device" "${sizes[@]}" "$@"
}

# A carried dist/ is compiled already.
compile='if (fs.existsSync("node_modules/typescript")) import("./setup/typescript.mjs").then((it) => it.buildTypeScript(console.log))'
part "TypeScript" 60 build.log node -e "$compile"
part "the addon" 120 build.log node setup/build.mjs
part "doctor" 60 doctor.json node dist/cli.js doctor --json
node -p 'const { engine } = JSON.parse(fs.readFileSync(process.argv[1]));
  `| kernels | ${engine.kernels.devices.map(({ device, form, whyNot }) => `${device}: ${form ?? whyNot}`).join("; ").split("\n")[0]} | |\n` +
  `| NVRTC | ${engine.kernels.nvrtc?.version ?? engine.kernels.nvrtcFailure}; ${engine.kernels.cubins.files} cubin(s) | |`' \
  "$out/doctor.json" | tee -a "$summary"

mapfile -t kernel_tests < <(
  find dist/torch/kernels dist/torch/ops dist/optim dist/layers dist/reversible -name '*.test.js' ! -name 'emulated.*' | sort
)
tests "kernels against their references" 90 kernels.log "${kernel_tests[@]}"
tests "equal bits" 90 bits.log dist/step/step.test.js dist/step/device.test.js
tests "planned against measured" 60 grid.log dist/plan/grid.test.js
# A rank sends to itself over NCCL; two ranks on the one card, through main memory, have the bits of one process, and of one another.
tests "a rank over NCCL" 30 ranks.log dist/torch/comm/nccl.test.js
tests "two ranks on one card" 90 ranks.log dist/train/ranks/ranks.test.js dist/train/ranks/transports.test.js
steps "steps, adalomo" 60 table.md --ways device --optimizer adalomo
steps "steps, adamw8bit" 60 table.md --ways device --optimizer adamw8bit
[[ $device == cuda ]] && steps "steps from host memory" 60 table.md --ways host --optimizer adalomo
[[ $device == cuda ]] && steps "steps of Qwen3-30B-A3B" 60 table.md --geometry qwen3-30b-a3b --ways device --optimizer adalomo
if [[ -n $theirs ]]; then
  steps "transformers" 90 table.md --ways "" --theirs adamw,adafactor
fi
[[ $device == cuda ]] && steps "profile of a step" 60 profile.md --ways device --optimizer adalomo --layers 24 --profile

{
  for log in kernels bits grid ranks; do
    failed=$(grep -aE '^ *✖ ' "$out/$log.log" 2>/dev/null | sort -u | head -30)
    [[ -n $failed ]] && printf '\n## Failed, %s.log\n\n```\n%s\n```\n' "$log" "$failed"
  done
  [[ -s $out/table.md ]] && { printf '\n## Steps\n\n'; grep -a '^| \|^  ' "$out/table.md" | awk '!/^\|/ || !seen[$0]++'; }
  [[ -s $out/profile.md ]] && { printf '\n## Profile\n\n'; head -40 "$out/profile.md"; }
  printf '\n%s of the parts did not end well; %s s in all.\n' "$failures" "$SECONDS"
} | tee -a "$summary"
exit $((failures > 0))
