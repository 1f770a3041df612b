"""One GRPO step, sampled, graded, scored by policy and reference, and taken: ours, TRL's GRPOTrainer and a plain loop, in turn."""
import json, subprocess, sys
from statistics import median
from common import Peak, Work, copy_rate, floor, matmul_rate, ours, parse, parser, plain, save, show, torch
import trl_loop

LOOPS = dict(ours=ours, plain=plain)


def memory(a, names, settings):
    "Peak MB of each contender: two steps, the second with the optimizer's moments, in a process of its own. On a GPU, where each counts its own, the others run side by side."
    def start(n):
        cmd = [sys.executable, __file__, '--peak', n, '--trl', json.dumps(settings), *[f'--{k}={getattr(a, k)}' for k in
               ('model', 'new', 'dtype', 'device', 'prompts', 'group', 'temperature', 'beta', 'threads', 'seed')]]
        return subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    def end(n, p):
        said, wrong = p.communicate()
        try: out[n] = json.loads(said.splitlines()[-1])['peak_mb']
        except (IndexError, ValueError): print(f"peak memory of {n}: {(wrong.strip().splitlines() or ['the process ended early'])[-1]}")
    out, begun = {}, {}
    for n in names:
        begun[n] = start(n)
        if a.device == 'cpu' or n == 'ours': end(n, begun.pop(n)) # Ours plans by the memory that is free
    for n, p in begun.items(): end(n, p)
    return out


def peak(a):
    "Two steps of one contender."
    if a.peak == 'trl': import trl, datasets # before the base line is drawn
    p = Peak(a.device)
    work = Work(a)
    if a.peak == 'trl':
        work.reference = None # TRL loads its own
        trl_loop.run(work, a.trl, 2)
    else:
        loop = LOOPS[a.peak](work)
        for k in range(2): loop.step(k)
    print(json.dumps(dict(peak_mb=p.mb())))


def main(argv=None):
    p = parser(__doc__)
    p.add_argument('--contenders', nargs='+', choices=('ours', 'plain', 'trl'), default=['ours', 'plain', 'trl'], help='who takes part')
    p.add_argument('--trl', type=json.loads, help="TRL's settings as JSON, instead of the fastest ones known")
    p.add_argument('--tune', action='store_true', help="try TRL's settings first and keep the fastest")
    p.add_argument('--tune-seconds', type=float, help='start no further trial after this time, and give up one that takes as long')
    p.add_argument('--no-peak', action='store_true', help='leave memory out')
    p.add_argument('--peak', choices=('ours', 'plain', 'trl'), help="internal: this contender's memory only")
    a = parse(p, argv)
    a.trl = {**trl_loop.BEST[a.device, a.dtype], **(a.trl or {})}
    if a.peak: return peak(a)
    names, tried = [n for n in a.contenders if n != 'trl' or trl_loop.TRL], None
    if 'trl' in a.contenders and not trl_loop.TRL: print(trl_loop.MISSING)
    work = Work(a)
    if a.tune and 'trl' in names:
        best, tried = trl_loop.tune(work, a.tune_seconds)
        if best: a.trl = best
        else: names.remove('trl'); print('TRL is left out: none of its settings runs here.')
    loops, rows, rates = {n: LOOPS[n](work) for n in names if n in LOOPS}, {n: [] for n in names}, []

    def others(k):
        rates.append(matmul_rate(work.model.config, a.device, work.dtype))
        for n, loop in loops.items(): rows[n].append(loop.step(k))

    if 'trl' in names: rows['trl'] = trl_loop.run(work, a.trl, a.repeats + 1, others)
    else:
        for k in range(a.repeats + 1): others(k)
    rows, rate = {n: r[1:] for n, r in rows.items()}, median(rates)
    bandwidth = copy_rate(a.device) if a.device == 'cuda' else None
    least = [floor(work, r['lengths'], rate, bandwidth) for r in rows[names[0]]]
    least = {k: median(f[k] for f in least) for k in least[0]}
    least['step'] = sum(least.values())
    a.contenders = names # so that a result without TRL does not take the name of one with it
    print(f"\n{a.model}, {a.prompts} x {a.group} completions of up to {a.new} tokens, {a.dtype}, {a.device}, medians of {a.repeats}")
    medians = show(rows)
    print(f"floor {least['step']:.3g} s at {2*rate/1e9:,.0f} GFLOP/s" + (f", {bandwidth/1e9:,.0f} GB/s" if bandwidth else '') + ': ' +
          ', '.join(f"{n} {m['s']/least['step']:.2f} times" for n, m in medians.items()))
    results = dict(repeats=rows, medians=medians, floor=dict(seconds=least, macs_per_s=rate, bytes_per_s=bandwidth,
        times={n: m['s']/least['step'] for n, m in medians.items()}), trl=dict(settings=a.trl if 'trl' in names else None, tried=tried))
    path = save('step', a, **results, peak_mb=None)
    del loops, work
    if a.device == 'cuda': torch.cuda.empty_cache()
    if not a.no_peak:
        mb = memory(a, names, a.trl)
        print('peak MB: ' + ', '.join(f'{n} {v:,.0f}' for n, v in mb.items() if v))
        save('step', a, **results, peak_mb=mb)
    print(f'written: {path}')


if __name__ == '__main__': main()
