"""What a checkpoint costs a run: how long the next step waits for it, and how much work the writing is beside it.

    python benchmarks/saving.py                                   # the shipped model, trained at its own settings
    python benchmarks/saving.py --shape 1.5B --device cuda        # random weights of a shape, no training: what is copied and written

Trained for real, each save is timed: `stall` is what the loop waits (copying to the host's memory, and the save before if
that is still under way), `write` is the thread that writes files, checksums and the policy folder. The cost of a save is the
stall and the processor time of the writing, as if no core were to spare. With --shape the stall is the copy alone.
"""
import argparse, tempfile, time
from pathlib import Path
from statistics import median
import torch
from common import ROOT, SHAPES, build, make_optimizer, write


def trained(a):
    "Saves of a real run, seconds of a step, bytes of a checkpoint."
    import grpo_nb.training as T
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
    with tempfile.TemporaryDirectory() as tmp:
        cfg = T.GRPOConfig.for_model(model_name=a.model_name, iterations=a.iterations, save_every=a.save_every, device=a.device or 'auto',
                                     run_name='saving', log_every=a.iterations, report_problems=0, val_batch_size=2)
        run = T.train(cfg, outputs=tmp)
        step_s = median(run.metrics[['rollout_s', 'scoring_s', 'update_s']].sum(axis=1))
        return saves,step_s,size_of(max(run.checkpoints_dir.glob('step-*')))


def size_of(folder): return sum(f.stat().st_size for f in folder.iterdir())


def shaped(a):
    "Saves of random weights with an optimizer that has made a step; no step is timed."
    try: from grpo_nb.states import snapshot, write_folder
    except (ImportError, TypeError): print('fastcore is not installed: saving is not timed'); raise SystemExit(0) # A stand-in of `patch` is not enough
    device = a.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    model,_ = build(a.shape, device, 'bfloat16' if device == 'cuda' else 'float32')
    opt,saves = make_optimizer(model, 1e-6, 'adamw_8bit' if device == 'cuda' else 'adamw'),[]
    for p in opt.params.values(): p.grad = torch.zeros_like(p)
    opt.step(); opt.zero_grad()
    with tempfile.TemporaryDirectory() as tmp:
        for i in range(3):
            if device == 'cuda': torch.cuda.synchronize()
            t0 = time.perf_counter()
            tensors = dict(weights=snapshot(dict(model.named_parameters())), optimizer=opt.state_dict())
            t1,c1 = time.perf_counter(),time.process_time()
            folder = write_folder(Path(tmp)/'step-00000001', tensors, {})
            saves.append(dict(step=i, stall_s=t1 - t0, write_s=time.perf_counter() - t1, write_cpu_s=time.process_time() - c1))
        return saves,None,size_of(folder)


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--model_name', default='small', help='as in training')
    p.add_argument('--iterations', type=int, default=100, help='steps')
    p.add_argument('--save_every', type=int, default=20, help='steps between checkpoints')
    p.add_argument('--shape', choices=SHAPES, help='time the copying and writing of random weights instead')
    p.add_argument('--device', help='as in training')
    p.add_argument('--out', type=Path, default=ROOT/'benchmarks'/'results', help='folder of the JSON file')
    a = p.parse_args(argv)
    saves,step_s,size = shaped(a) if a.shape else trained(a)
    mid = {k:median(s[k] for s in saves) for k in ('stall_s', 'write_s', 'write_cpu_s')}
    share = step_s and (mid['stall_s'] + mid['write_cpu_s'])/(a.save_every*step_s)
    settings = {k:v for k,v in vars(a).items() if k != 'out'}
    path = write(a.out/f'saving-{a.shape or Path(a.model_name).name}.json', 'saving', settings, 'cuda' if torch.cuda.is_available() and a.device != 'cpu' else 'cpu',
                 saves=saves, medians=dict(mid, step_s=step_s), checkpoint_bytes=size, share=share)
    print(f"a save waits {mid['stall_s']*1000:.0f} ms; {size/2**20:.1f} MB are written in {mid['write_s']*1000:.0f} ms beside the next steps ({mid['write_cpu_s']*1000:.0f} ms of processor time)")
    if share: print(f'a step takes {step_s:.2f} s: {100*share:.1f}% of the run with save_every={a.save_every}')
    print('written:', path)


if __name__ == '__main__': main()
