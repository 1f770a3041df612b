"""A training step of one process on one core beside the same step of two processes on two: how much faster, and what the exchange costs.

    python benchmarks/parallel.py                        # the shipped model and 30M weights, about ten minutes on two quiet cores
    python benchmarks/parallel.py --models small --steps 3

Every process has one thread and one core of its own, so two of them have twice the machine. The work is the same, 4 prompts of
16 completions; what two processes add is the exchange: texts and figures of the batch, gradients to their owners, weights back.
Its seconds include the wait for the slower one; its bytes are those of gradients and weights.
Each size is run with one and with two processes by turns, `--repeats` times; medians over all steps but the first.
"""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path
from statistics import median
from common import MODELS, ROOT, Work, make_optimizer, write
from grpo_nb import ranks
import grpo_nb.step as S
import grpo_nb.optimizer as O

BYTES, SECONDS = [0], [0.]


def timed(f, size=lambda *a: 0):
    "Count the seconds and the bytes of an exchange, the wait for the other process included."
    def wrapped(*args):
        t0 = time.perf_counter()
        out = f(*args)
        SECONDS[0] += time.perf_counter() - t0
        BYTES[0] += size(*args) if ranks.world_size() > 1 else 0
        return out
    return wrapped


def worker(a):
    "Steps of one process of a group."
    if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[ranks.rank()]})
    of = lambda tensors, owners: sum(t.nbytes for t in tensors)
    S.whole, S.overall = timed(S.whole), timed(S.overall)
    O.to_owners, O.from_owners = timed(O.to_owners, of), timed(O.from_owners, of)
    asked = argparse.Namespace(model=a.models[0], device='cpu', dtype='float32', seed=0, temperature=1.2, prompts=4, group=16, beta=.01, new=a.new, threads=1)
    work, rows = Work(asked), []
    work.prompts, work.problems, whole = ranks.share(work.prompts), ranks.share(work.problems), work.lengths # Each samples its part
    work.lengths = lambda k: ranks.share(whole(k))
    opt = make_optimizer(work.model, 1e-6, 'adamw')
    for step in range(1, a.steps + 1):
        BYTES[0], SECONDS[0] = 0, 0.
        ranks.everyone(None) # Begin together
        t0 = time.perf_counter()
        batch = work.batch(work.sample(work.model, step), step)
        batch.rollout_s = time.perf_counter() - t0
        batch = S.whole(batch)
        t1 = time.perf_counter()
        S.update(work.cfg, work.model, work.reference, opt, batch, step)
        rows.append(dict(step_s=time.perf_counter() - t0, rollout_s=batch.rollout_s, update_s=time.perf_counter() - t1, exchange_s=SECONDS[0], bytes_exchanged=BYTES[0]))
    if not ranks.rank(): a.rows.write_text(json.dumps(dict(rows=rows, parameters=work.model.num_parameters())))


def measured(a, model, processes):
    "The rows of a group of processes."
    with tempfile.TemporaryDirectory() as d:
        rows = Path(d)/'rows.json'
        command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={processes}', __file__, '--models', model, '--steps', a.steps, '--new', a.new, '--rows', rows]
        done = subprocess.run([*map(str, command)], env={**os.environ, 'OMP_NUM_THREADS':'1'}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode: raise SystemExit(done.stdout[-3000:])
        return json.loads(rows.read_text())


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--models', nargs='+', default=['small', '30M'], choices=MODELS, help='sizes')
    p.add_argument('--steps', type=int, default=6, help='steps of each group of processes, the first not counted')
    p.add_argument('--repeats', type=int, default=3, help='times that each group is started')
    p.add_argument('--new', type=int, default=64, help='most new tokens')
    p.add_argument('--out', type=Path, default=ROOT/'benchmarks'/'results', help='folder of the JSON file')
    p.add_argument('--rows', type=Path, help=argparse.SUPPRESS)
    a = p.parse_args(argv)
    if a.rows:
        with ranks.joined(): return worker(a)
    found = {}
    for model in a.models:
        for _ in range(a.repeats):
            for n in (1, 2):
                got = measured(a, model, n)
                found.setdefault((model, n), dict(parameters=got['parameters'], rows=[]))['rows'] += got['rows'][1:]
                print(model, n, f"{median(r['step_s'] for r in got['rows'][1:]):.2f} s", flush=True)
    rows = [dict(model=m, processes=n, cores=n, threads=1, parameters=f['parameters'], steps=len(f['rows']), **{k:median(r[k] for r in f['rows']) for k in f['rows'][0]}) for (m, n), f in found.items()]
    for r in rows: print({k:round(v, 3) if isinstance(v, float) else v for k,v in r.items()})
    print('written:', write(a.out/'parallel.json', 'parallel', dict(models=a.models, steps=a.steps, repeats=a.repeats, new=a.new), rows=rows))


if __name__ == '__main__': main()
