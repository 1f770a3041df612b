"""How long `make train` took before the fast path and how long it takes now, and the processor time of both, by turns.

    python benchmarks/then_and_now.py    # a quarter of an hour on a machine with nothing else to do; needs the repository's history

The code of the commit that made the first records of the small model is unpacked beside today's. Either trains the small
model with its own preset, 200 steps with the machine's cores to itself as `make train` has them, evaluating four puzzles only.
"""
import argparse, io, json, os, subprocess, sys, tarfile, tempfile
from pathlib import Path
from statistics import median
from common import ROOT, write

RUN = '''import json, sys, time
sys.path.insert(0, sys.argv[1])
import transformers
from grpo_nb.training import GRPOConfig, train
cfg = GRPOConfig.for_model(run_name='run', model_name='small', device='cpu', iterations=int(sys.argv[3]), seed=int(sys.argv[4]), val_batch_size=4, report_problems=4)
t0,w0 = time.process_time(),time.perf_counter()
run = train(cfg, outputs=sys.argv[2])
print(json.dumps(dict(seconds=time.process_time() - t0, wall_s=time.perf_counter() - w0, tokens=int((run.metrics.completion_length*cfg.batch_size*cfg.num_generations).sum()), reward_last_20=float(run.metrics.reward.tail(20).mean()))))'''


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--then', default='fccb4a3', help='the commit to compare with')
    p.add_argument('--iterations', type=int, default=200, help='steps of a run')
    p.add_argument('--seeds', type=int, nargs='+', default=[0, 1], help='runs of each')
    p.add_argument('--out', type=Path, default=ROOT/'benchmarks'/'results', help='folder of the JSON file')
    a, rows = p.parse_args(argv), []
    with tempfile.TemporaryDirectory() as tmp:
        old = subprocess.run(['git', '-C', ROOT, 'archive', a.then], stdout=subprocess.PIPE)
        if old.returncode: p.error(f'--then should be a commit of this repository, got {a.then!r}')
        tarfile.open(fileobj=io.BytesIO(old.stdout)).extractall(f'{tmp}/old', **(dict(filter='data') if hasattr(tarfile, 'data_filter') else {}))
        for seed in a.seeds:
            for name, code in (('then', f'{tmp}/old'), ('now', ROOT)):
                args = [code, f'{tmp}/{name}{seed}', a.iterations, seed]
                done = subprocess.run([sys.executable, '-c', RUN, *map(str, args)], cwd=code, stdout=subprocess.PIPE, text=True, env={**{k: v for k, v in os.environ.items() if k != 'OMP_NUM_THREADS'}, 'OMP_WAIT_POLICY': 'PASSIVE', 'GOMP_SPINCOUNT': '0', 'PYTHONPATH': str(code)})
                if done.returncode: raise SystemExit(f'the run of {name} ended with status {done.returncode}')
                rows.append(dict(code=name, seed=seed, **json.loads(done.stdout.splitlines()[-1])))
                print(rows[-1], flush=True)
    def share(k):
        of = lambda name: [r[k] for r in rows if r['code'] == name]
        return median(n/t for n, t in zip(of('now'), of('then')))
    shares = dict(wall=share('wall_s'), processor=share('seconds'))
    print(f"now {shares['wall']:.2f} of the time of then, {shares['processor']:.2f} of its processor time\nwritten:",
          write(a.out/'then_and_now.json', 'then_and_now', dict(then=a.then, iterations=a.iterations, seeds=a.seeds), runs=rows, shares=shares))


if __name__ == '__main__': main()
