"""Kill real training runs with SIGKILL at random moments, continue them, and compare with a run that was never killed.

    python benchmarks/kill_loop.py --kills 60

Every second kill is aimed at a save that is under way. When a run ends before it is killed, the next one begins; each must
come out bit for bit like the unbroken one: metrics but for the seconds, completions, evaluations, weights, optimizer.
"""
import argparse, random, signal, tempfile, time
from collections import Counter
from pathlib import Path
from under_fire import ROOT, Run, differences, end, logged, saved, start, training, unbroken, wait_for, write


def saves(run):
    "Marks of saves that are not complete: their folders have other names until they are, and an earlier kill may have left some."
    marks = set()
    for path in (*run.checkpoints_dir.glob('.unfinished-*'), run.checkpoints_dir/'.policy'):
        try: marks.add((path.name, path.stat().st_ctime_ns))
        except FileNotFoundError: pass
    return marks


def strike(run, start, rng, longest, aimed):
    "Start a process and kill it at a random moment. It, and what was seen then, or None if it had ended by itself."
    left = saves(run)
    p,saving = start(),lambda: bool(saves(run) - left)
    if aimed and wait_for(saving, p, longest): time.sleep(rng.uniform(0, .04))
    elif not aimed: time.sleep(rng.uniform(0, longest))
    p.kill()
    if end(p) != -signal.SIGKILL: return p,None
    return p,dict(during='save' if saving() else 'training', logged=logged(run), saved=saved(run), state=run.state if run.exists else 'none')


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--kills', type=int, default=60, help='how many')
    p.add_argument('--iterations', type=int, default=18, help='steps of each run')
    p.add_argument('--seed', type=int, default=0, help='of the moments')
    p.add_argument('--out', type=Path, default=ROOT/'benchmarks'/'results', help='folder of the JSON file')
    a = p.parse_args(argv)
    rng,size,kills,runs = random.Random(a.seed),dict(iterations=a.iterations),[],[]
    with tempfile.TemporaryDirectory() as tmp:
        outputs = Path(tmp)
        whole,seconds = unbroken(outputs, **size)
        print(f'unbroken: {len(whole.metrics)} steps in {seconds:.1f} s', flush=True)
        while len(kills) < a.kills:
            name = f'run{len(runs)}'
            run,log,hits,unusable = Run(name, outputs, must_exist=False),outputs/f'{name}.log',0,''
            while True:
                begin = lambda: start(training(outputs, name, **size), log)
                child,hit = strike(run, begin, rng, .5*seconds, len(kills)%2) if len(kills) < a.kills else (begin(), None)
                if hit is None:
                    if end(child): unusable = log.read_text().strip().splitlines()[-1]
                    break
                kills.append(dict(hit, run=name))
                hits += 1
            wrong = [] if unusable else differences(whole, run)
            runs.append(dict(run=name, kills=hits, unusable=unusable, differences=wrong, skipped=log.read_text().count('Skipping the checkpoint')))
            print(f"{name}: killed {hits} times, {unusable or ('differs: ' + ', '.join(wrong) if wrong else 'equal bit for bit')}", flush=True)
    total = dict(kills=len(kills), during=dict(Counter(k['during'] for k in kills)), states=dict(Counter(k['state'] for k in kills)), runs=len(runs),
                 unusable=sum(bool(r['unusable']) for r in runs), different=sum(bool(r['differences']) for r in runs), resumed=sum(r['kills'] for r in runs if not r['unusable']),
                 skipped=sum(r['skipped'] for r in runs), most_steps_lost=max(max(0, k['logged'] - k['saved']) for k in kills))
    path = write(a.out/'kill_loop.json', 'kill_loop', dict(kills=a.kills, seed=a.seed, **size), total=total, runs=runs, kills=kills)
    print(f"{total['resumed']} of {total['kills']} kills ({total['during'].get('save', 0)} of them during a save) were survived; {total['unusable']} runs unusable, {total['different']} of {total['runs']} differ\nwritten: {path}")
    return 0 if not (total['unusable'] or total['different']) else 1


if __name__ == '__main__': raise SystemExit(main())
