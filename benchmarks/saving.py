"""What a checkpoint costs a run: how long the next step waits for it, and how much work the writing is beside it.

    python benchmarks/saving.py                                            # the shipped model at its own settings
    python benchmarks/saving.py --model_name FOLDER --iterations 8 --save_every 2   # on a GPU: a Hugging Face folder

It trains for real, with all that a checkpoint holds, and times each save: `stall` is what the loop waits (copying to the
host's memory, and for the save before if that is still under way), `write` is the thread that writes files, checksums and
the policy folder. The cost of a save is the stall and the processor time of the writing, as if no core were to spare.
"""
import argparse, json, tempfile, time
from pathlib import Path
from statistics import median
from common import ROOT, hardware
import grpo_nb.training as T
from grpo_nb.runs import Run
from under_fire import write


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--model_name', default='small', help='as in training')
    p.add_argument('--iterations', type=int, default=100, help='steps')
    p.add_argument('--save_every', type=int, default=20, help='steps between checkpoints')
    p.add_argument('--device', default='auto', help='as in training')
    p.add_argument('--out', type=Path, default=ROOT/'benchmarks'/'results', help='folder of the JSON file')
    a = p.parse_args(argv)
    saves,save,begin_job = [],T.save,T.Background.start

    def timed_save(*args):
        t0 = time.perf_counter()
        saves.append(dict(step=args[5]))
        save(*args)
        saves[-1]['stall_s'] = time.perf_counter() - t0

    def timed_job(self, f, *args):
        entry = saves[-1]
        def job():
            t0,c0 = time.perf_counter(),time.thread_time()
            try: return f(*args)
            finally: entry.update(write_s=time.perf_counter() - t0, write_cpu_s=time.thread_time() - c0)
        begin_job(self, job)

    T.save,T.Background.start = timed_save,timed_job
    settings = {k:getattr(a, k) for k in ('model_name', 'iterations', 'save_every', 'device')}
    with tempfile.TemporaryDirectory() as tmp:
        cfg = T.GRPOConfig.for_model(**settings, run_name='saving', log_every=a.iterations, report_problems=0, val_batch_size=2)
        run = T.train(cfg, outputs=tmp)
        step_s = median(run.metrics[['rollout_s', 'scoring_s', 'update_s']].sum(axis=1))
        size = sum(f.stat().st_size for f in max(run.checkpoints_dir.glob('step-*')).iterdir())
    mid = {k:median(s[k] for s in saves) for k in ('stall_s', 'write_s', 'write_cpu_s')}
    share = (mid['stall_s'] + mid['write_cpu_s'])/(a.save_every*step_s)
    path = write(a.out/f"saving-{Path(a.model_name).name}.json", 'saving', settings, saves=saves, medians=dict(mid, step_s=step_s), checkpoint_bytes=size, share=share)
    print(f"a save waits {mid['stall_s']*1000:.0f} ms, writes {size/2**20:.1f} MB and the policy in {mid['write_s']*1000:.0f} ms beside the next steps ({mid['write_cpu_s']*1000:.0f} ms of processor time); "
          f"a step takes {step_s:.2f} s: {100*share:.1f}% of the run with save_every={a.save_every}\nwritten: {path}")


if __name__ == '__main__': main()
