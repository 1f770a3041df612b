"""What `make train` cost before the fast path and what it costs now: processor time of the run's steps, by turns.

    python benchmarks/then_and_now.py    # a quarter of an hour on one core; needs the repository's history

The code of the commit that made the first records of the small model is unpacked beside today's. Either trains the small
model with its own preset, 200 steps on one thread, with evaluations of four puzzles only.
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
t0 = time.process_time()
run = train(cfg, outputs=sys.argv[2])
print(json.dumps(dict(seconds=time.process_time() - t0, tokens=int((run.metrics.completion_length*cfg.batch_size*cfg.num_generations).sum()), reward_last_20=float(run.metrics.reward.tail(20).mean()))))'''


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
                done = subprocess.run([sys.executable, '-c', RUN, *map(str, args)], cwd=code, stdout=subprocess.PIPE, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(code)})
                if done.returncode: raise SystemExit(f'the run of {name} ended with status {done.returncode}')
                rows.append(dict(code=name, seed=seed, **json.loads(done.stdout.splitlines()[-1])))
                print(rows[-1], flush=True)
    of = lambda name: [r['seconds'] for r in rows if r['code'] == name]
    share = median(n/t for n, t in zip(of('now'), of('then')))
    print(f'now {share:.2f} of then\nwritten:', write(a.out/'then_and_now.json', 'then_and_now', dict(then=a.then, iterations=a.iterations, seeds=a.seeds), runs=rows, share=share))


if __name__ == '__main__': main()
