#!/usr/bin/env bash
# What the scripts in slurm/ share; their headers list the exit codes.   tools/job.sh NOTEBOOK train|eval [NAME VALUE ...]
# Names the run, continues it where there is one, leaves its record; when Slurm asks, stops the run and requeues the job.
set -euo pipefail
notebook=$1 kind=$2; shift 2
(( $# % 2 == 0 )) || { echo "Settings come as NAME VALUE pairs, and the last of these has no value: $*" >&2; exit 2; }
for ((i = 1; i < $#; i += 2)); do
  value=$((i + 1))
  case ${!i} in run_name) run=${!value} ;; resume) resume=${!value} ;; num_processes) processes=${!value} ;; esac
done
job=${SLURM_JOB_ID:-} here=$(dirname "${BASH_SOURCE[0]}")
if [ -z "${run:-}" ]; then
  run=$kind-${job:-$(date +%Y%m%d-%H%M%S)}
  set -- run_name "$run" "$@"
fi
folder=${GRPO_OUTPUTS:-outputs}/$run

# Compute nodes seldom have network and home folders seldom room: models come from where tools/prefetch.sh put them
export HF_HOME=${HF_HOME:-${GRPO_OUTPUTS:-$PWD/outputs}/huggingface} HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}

say() { echo "[$(date '+%F %T')] $*"; }
python=.venv/bin/python; [ -x "$python" ] || python=python3
manifest() {  # the run's state, how often it was started, its last step
  if [ -e "$folder/manifest.json" ]; then
    "$python" -c 'import json, sys; m = json.load(open(sys.argv[1])); print(m["state"], len(m.get("starts", [])), m.get("step") or 0)' \
      "$folder/manifest.json" 2>/dev/null || echo unreadable 0 0
  else echo new 0 0; fi
}
rows() { cat "$folder/metrics.jsonl" "$folder/eval.jsonl" 2>/dev/null | wc -l || true; }  # how far it is
at() { [[ $kind == train && $state != new ]] && echo "$state, step $step" || echo "$state"; }
read -r state starts step < <(manifest)
had=$(rows)
as_asked() {  # are these the settings of the run that is there?
  "$python" -c 'import json, sys
s = json.load(open(sys.argv[1]))["settings"]
def same(v, a):
    try: return a in (str(v), json.dumps(v)) or float(a) == v
    except ValueError: return False
sys.exit(not all(same(s.get(k), a) for k, a in zip(sys.argv[2::2], sys.argv[3::2])))' "$folder/manifest.json" "$@" 2>/dev/null
}
[[ $kind == train && $state == done ]] && as_asked "$@" && { say "Run $run is done already, with these settings: nothing to do"; exit 0; }
# One process for each GPU that Slurm gave the job on a node
[[ $kind == train && -z ${processes:-} && ${SLURM_GPUS_ON_NODE:-1} -gt 1 ]] && set -- "$@" num_processes "$SLURM_GPUS_ON_NODE"
[[ $kind == train && $state != new && -z ${resume:-} ]] && set -- "$@" resume True
say "Job ${job:-without Slurm} on $(uname -n), segment $((${SLURM_RESTART_COUNT:-0} + 1)): $notebook, run $run ($(at))"

# A trap fires only while the shell waits for something in the background, so that is where the run goes
asked='' code=0
trap 'asked=USR1' USR1
trap 'asked=TERM' TERM
# Preempting a job, Slurm sends TERM to all its processes. It would kill papermill at once: a training run ignores it
([[ $kind == train ]] && trap '' TERM USR1; exec "$here/record.sh" "$notebook" "$run" "$@") & pid=$!
alive() { kill -0 "$pid" 2>/dev/null; }
wait "$pid" || code=$?

if [ -n "$asked" ] && alive; then
  say "Slurm asks to stop ($asked)"
  if [[ $kind == train ]]; then  # asked again each second, for a run that begins only now removes an older STOP
    for ((s = 0; s < ${GRPO_GRACE:-240}; s++)); do
      alive || break
      [ ! -d "$folder" ] || touch "$folder/STOP" || true
      sleep 1
    done
    alive && { say "Run $run did not stop within ${GRPO_GRACE:-240} s: submitted again it continues from its last checkpoint"; exit 4; }
    rm -f "$folder/STOP"
  else
    pkill -TERM -P "$pid" || true  # what was asked and answered is on disk
  fi
  code=0; wait "$pid" || code=$?
fi

before=$starts
read -r state starts step < <(manifest)
[[ $code == 0 && $state == done ]] && { say "Run $run is done"; exit 0; }
if [ -n "$asked" ] && [[ $state != failed ]]; then
  [[ $asked == USR1 && ${SLURM_RESTART_COUNT:-0} != 0 && $(rows) == "$had" ]] &&
    { say "Run $run came no further since the job was last requeued, so it is not requeued again: ask for more --time"; exit 4; }
  [ -z "$job" ] && { say "Run $run stopped ($(at)); without Slurm nothing requeues it"; exit 0; }
  # A job that scancel ends is not brought back; one that lost its place to another comes back even where Slurm would drop it
  about=$(scontrol show job --oneliner "$job" || true)
  [[ $about =~ JobState=RUNNING|PreemptTime=[0-9] ]] || { say "Run $run stopped ($(at)). Slurm itself ends this job, and requeues it or not"; exit 0; }
  say "Run $run stopped ($(at)): back to the queue"
  scontrol requeue "$job" && exit 0
  say "Slurm did not requeue job $job: submitted again it continues run $run"; exit 5
fi
[[ $code == 0 ]] && { say "Run $run was stopped by hand ($(at)): submitted again it continues"; exit 0; }
[[ $code == 127 ]] && exit 127
[[ $starts == "$before" ]] && { say "Run $run was refused before it began: the lines above say why"; exit 2; }
say "Run $run failed ($(at)): the lines above and $folder/manifest.json say why"; exit 3
