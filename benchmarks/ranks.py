"""Kill, stop and break processes of data-parallel training runs; see how each run ends, and that it goes on as if nothing had happened.

    python benchmarks/ranks.py --kills 20        # about 20 minutes on two cores
    python benchmarks/ranks.py --kills 0 --only hang orphan

A kill is a SIGKILL to one process of two: in three of ten cases at a random moment after its start, else up to eleven steps
further on, at a random moment of the next. After it nobody may be left,
the manifest must say which process it was, and the same run is continued, on two processes or on one by turns. When a run
ends before it is killed, the next one begins; each that stayed with two processes must come out bit for bit like the
unbroken one, each that changed their number within 1e-5.
"""
import argparse, os, random, tempfile, time
from pathlib import Path
import psutil
from under_fire import ROOT, TINY, Run, differences, end, logged, start, training, unbroken, wait_for, write
import grpo_nb.processes # under_fire has found it

SIZE, FAULTS = dict(iterations=40, batch_size=4, num_processes=2, max_new_tokens=48), {}
BREAK = '''import os, sys
if os.environ.get('RANK') == '1':
    import grpo_nb.step as step
    collect = step.collect
    def broken(cfg, model, tokenizer, k, *rest):
        if k == 3: raise ValueError('seven is not a target')
        return collect(cfg, model, tokenizer, k, *rest)
    step.collect = broken
'''


def fault(f): FAULTS[f.__name__] = f; return f


def ranks(p):
    "The processes that train below a process, by rank."
    found = {}
    try:
        for c in psutil.Process(p.pid).children(recursive=True):
            try:
                if 'grpo_nb.training' in c.cmdline() and 'torch.distributed.run' not in c.cmdline(): found[int(c.environ()['RANK'])] = c
            except (psutil.Error, KeyError, OSError): continue
    except psutil.NoSuchProcess: pass
    return found


def family(p):
    "All processes below a process."
    try: return psutil.Process(p.pid).children(recursive=True)
    except psutil.NoSuchProcess: return []


def left(known, seconds=10):
    "How many of these processes are still there after some seconds."
    psutil.wait_procs(known, seconds)
    return sum(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in known)


def closeness(a, b):
    "Largest difference of two runs' final weights."
    from safetensors.torch import load_file
    x, y = (load_file(r.policy_dir/'model.safetensors') for r in (a, b))
    return max(float((x[k].float() - y[k].float()).abs().max()) for k in x)


class Case:
    "One run of two processes in a folder of its own."
    def __init__(self, outputs, name): self.outputs, self.name, self.log, self.run = outputs, name, outputs/f'{name}.log', Run(name, outputs, must_exist=False)
    def start(self, before=lambda: None, **settings): return start(training(self.outputs, self.name, before, **{**SIZE, **settings}), self.log)
    def train_on(self, p, step):
        "Wait until it has logged a step; its processes then."
        if not wait_for(lambda: logged(self.run) >= step, p, 300): raise RuntimeError(self.log.read_text()[-2000:])
        return family(p)
    def told(self):
        "How a run that has ended reads."
        m = self.run.manifest if self.run.exists else {}
        return dict(state=self.run.state if m else 'none', error=(m.get('error') or '').replace(f'{self.outputs}/', ''), step=logged(self.run))


@fault
def error(case):
    "An exception in the second process."
    lib = case.outputs/'broken'
    lib.mkdir()
    (lib/'sitecustomize.py').write_text(BREAK)
    p = case.start(lambda: os.environ.update(PYTHONPATH=os.pathsep.join([str(lib), os.environ.get('PYTHONPATH', '')])))
    known = case.train_on(p, 1)
    return dict(exit_code=end(p), left=left(known))


@fault
def hang(case):
    "The second process is stopped and never answers; GRPO_TIMEOUT is 30 seconds."
    def soon(): # The module is there already and has read the time it had
        os.environ['GRPO_TIMEOUT'], grpo_nb.processes.LIMIT = '30', 30.
    p = case.start(soon)
    known = case.train_on(p, 2)
    ranks(p)[1].suspend()
    t0 = time.monotonic()
    return dict(exit_code=end(p), left=left(known), seconds=round(time.monotonic() - t0, 1))


@fault
def orphan(case):
    "The process that started them is killed."
    p = case.start()
    known = case.train_on(p, 2)
    p.kill()
    return dict(exit_code=end(p), left=left(known))


@fault
def agent(case):
    "torchrun itself is killed."
    p = case.start()
    known = case.train_on(p, 2)
    next(c for c in known if 'torch.distributed.run' in c.cmdline()).kill()
    return dict(exit_code=end(p), left=left(known))


def faults(outputs, whole, only):
    rows = []
    for name, f in FAULTS.items():
        if only and name not in only: continue
        case = Case(outputs, name)
        row = dict(fault=f.__doc__, name=name, **f(case), **case.told())
        wrong = [case.log.read_text()[-300:]] if end(case.start()) else differences(whole, case.run)
        rows.append(row | dict(differences=wrong))
        print(rows[-1], flush=True)
    return rows


def kills(outputs, whole, wanted, seed, seconds):
    rng, hits, runs = random.Random(seed), [], []
    while len(hits) < wanted:
        case, pure, n = Case(outputs, f'run{len(runs)}'), True, 0
        while True:
            alone = len(hits) % 4 == 3 and n # Continued by one process, now and then
            pure, before, p = pure and not alone, logged(case.run), case.start(num_processes=1 if alone else 2)
            if alone or len(hits) >= wanted:
                if alone: wait_for(lambda: logged(case.run) > before + 2, p); case.run.stop()
                code = end(p)
                if case.run.state == 'preempted': hits[-1]['then'] = 'one process'; n = 0; continue
                break
            wait_for(lambda: len(ranks(p)) == 2, p, 60)
            if rng.random() < .3: time.sleep(rng.uniform(0, .3*seconds)) # Most of it starting up
            else:
                step = before + rng.randrange(1, 12)
                if step > SIZE['iterations'] - 2: code = end(p); break # Its last steps are in peace
                wait_for(lambda: logged(case.run) >= step, p)
                time.sleep(rng.uniform(0, .01*seconds))
            known, there = family(p), ranks(p)
            if not there: code = end(p); break
            r = rng.choice(sorted(there))
            there[r].kill()
            t0, code = time.monotonic(), end(p)
            hit = dict(run=case.name, rank=r, exit_code=code, seconds=round(time.monotonic() - t0, 1), left=left(known), **case.told())
            if code == 0: break # It had just ended
            hits.append(hit)
            n += 1
            print(hit, flush=True)
        wrong = [case.log.read_text()[-300:]] if code else differences(whole, case.run) if pure else []
        runs.append(dict(run=case.name, only_two_processes=pure, differences=wrong, weights_apart=None if code else closeness(whole, case.run)))
        print(runs[-1], flush=True)
    return hits, runs


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--kills', type=int, default=20, help='how many')
    p.add_argument('--only', nargs='*', default=[], help=f"other faults: {', '.join(FAULTS)}; none: all")
    p.add_argument('--seed', type=int, default=0, help='of the moments')
    p.add_argument('--out', type=Path, default=ROOT/'benchmarks'/'results', help='folder of the JSON file')
    a = p.parse_args(argv)
    with tempfile.TemporaryDirectory() as tmp:
        outputs = Path(tmp)
        whole, seconds = unbroken(outputs, **SIZE)
        print(f'unbroken: {len(whole.metrics)} steps of two processes in {seconds:.1f} s', flush=True)
        rows = faults(outputs, whole, a.only)
        hits, runs = kills(outputs, whole, a.kills, a.seed, seconds)
    clear = [h for h in hits if h['exit_code'] and not h['left'] and h['state'] == 'failed' and f"process {h['rank']} was killed by SIGKILL" in h['error']]
    total = dict(kills=len(hits), clear_end=len(clear), left=sum(h['left'] for h in hits), slowest_end_s=max((h['seconds'] for h in hits), default=None), runs=len(runs),
                 different=sum(bool(r['differences']) for r in runs), apart=max((r['weights_apart'] for r in runs if r['weights_apart'] is not None), default=None))
    path = write(a.out/'ranks.json', 'ranks', dict(TINY, **SIZE, kills=a.kills, seed=a.seed), total=total, faults=rows, kills=hits, runs=runs)
    print(f'{total}\nwritten: {path}')
    return 0 if len(clear) == len(hits) and not total['different'] and not any(r['differences'] or r['left'] for r in rows) else 1


if __name__ == '__main__': raise SystemExit(main())
