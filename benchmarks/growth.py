"""How the cost of our step grows with completions per step, with completion length and with model size, and the laws fitted to it."""
import gc, json, subprocess, sys
from argparse import Namespace
from statistics import median
from common import MODELS, Peak, Work, hazard_for, macs, matmul_rate, ours, parse, parser, save, table


def point(a, model, rows, new):
    "One point: medians of time, tokens and context, and peak memory."
    gc.collect()
    peak, a = Peak(a.device), Namespace(**vars(a) | dict(model=model, new=new, prompts=rows//a.group))
    work = Work(a, hazard_for(new))
    loop, cfg = ours(work), work.model.config
    prompt, rates, steps = len(work.tok(work.prompts[0], add_special_tokens=False).input_ids), [], []
    for k in range(a.repeats + 1):
        rates.append(matmul_rate(cfg, a.device, work.dtype))
        steps.append(loop.step(k))
    mb, steps, P = peak.mb(), steps[1:], a.prompts*prompt
    for s in steps:
        n = s.pop('lengths')
        s['fed'] = P + sum(n) # Tokens that must be read, each prompt once
        s['context'] = (P*(prompt + 1)/2 + sum(prompt*m + m*(m + 1)/2 for m in n))/s['fed'] # Their mean context
        s['macs'] = (5 if a.beta else 4)*macs(cfg, prompt, a.prompts, n) # Of the arithmetic floor
    return dict(model=model, parameters=sum(p.numel() for p in work.model.parameters()), completions=rows, new=new, prompt=prompt, peak_mb=mb,
                macs_per_s=median(rates), **{k: median(s[k] for s in steps) for k in steps[0]}, steps=steps)


def apart(a, model, rows, new):
    "The same in a process of its own, as resident memory needs; on a GPU memory is counted without."
    if a.device == 'cuda': return point(a, model, rows, new)
    cmd = [sys.executable, __file__, '--point', model, str(rows), str(new), *[f'--{k}={getattr(a, k)}' for k in
           ('dtype', 'device', 'repeats', 'group', 'temperature', 'beta', 'threads', 'seed')]]
    done = subprocess.run(cmd, capture_output=True, text=True)
    if done.returncode: raise RuntimeError((done.stderr.strip().splitlines() or [f'the process ended with status {done.returncode}'])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def fit(columns, y, names):
    "Non-negative coefficients of y = Σ coefficient·column, least squares of the relative error; and the mean relative error."
    try:
        import numpy as np
        from scipy.optimize import nnls
    except ImportError:
        print('scipy is not installed, so no law is fitted.')
        return None
    if len(y) <= len(names): return None
    X, y = np.array(columns, float).T, np.array(y, float)
    unit = X.max(0)
    c = nnls(X/unit/y[:,None], np.ones(len(y)))[0]/unit
    return dict(zip(names, c.tolist())) | dict(relative_error=float(np.abs(X @ c/y - 1).mean()), points=len(y))


def laws(points, group):
    "The laws of time and memory for each model, and one of time over all of them. Only one group at a time is learned from."
    out = {}
    for m in dict.fromkeys(p['model'] for p in points):
        ps = [p for p in points if p['model'] == m]
        one, fed, wide = [1]*len(ps), [p['fed'] for p in ps], [p['fed']*p['context'] for p in ps]
        out[m] = dict(seconds=fit([one, fed, wide], [p['s'] for p in ps], ('constant', 'per_token', 'per_token_and_context')))
        if all(p['peak_mb'] for p in ps): out[m]['mb'] = fit([one, fed, [p['fed']*group/p['completions'] for p in ps]], [p['peak_mb'] for p in ps], ('constant', 'per_token', 'per_token_of_a_group'))
    work = [p['macs'] for p in points]
    out['all'] = dict(seconds=fit([[1]*len(work), work], [p['s'] for p in points], ('constant', 'per_mac')))
    return out


def main(argv=None):
    p = parser(__doc__, repeats=3, models=False)
    p.add_argument('--models', nargs='+', choices=MODELS, default=['tiny', '30M'], help='the first is measured at all points, the others at the ends')
    p.add_argument('--completions', nargs='+', type=p.count, default=[16, 32, 64, 128, 256], help='completions a step, at --new tokens')
    p.add_argument('--lengths', nargs='+', type=p.count, default=[64, 128, 256, 512, 1024], help='longest completions, at prompts x group of them')
    p.add_argument('--at', nargs='+', help='points of the other models as COMPLETIONSxNEW; default: the base point, and half of it either way')
    p.add_argument('--point', nargs=3, metavar=('MODEL', 'COMPLETIONS', 'NEW'), help='internal: one point')
    a = parse(p, argv)
    if a.point: return print(json.dumps(point(a, a.point[0], int(a.point[1]), int(a.point[2]))))
    base = a.prompts*a.group
    wrong = [n for n in a.completions if n % a.group]
    if wrong: p.error(f'--completions should be multiples of --group {a.group}, got {wrong[0]}')
    at = a.at or [f'{base}x{a.new}', f'{max(base//2, a.group)}x{a.new}', f'{base}x{max(a.new//2, 1)}', f'{base*2}x{a.new}', f'{base}x{a.new*2}']
    try: at = [tuple(map(int, o.split('x'))) for o in at]
    except ValueError: p.error(f'--at should be pairs such as 64x160, got {" ".join(at)}')
    if any(len(o) != 2 or o[0] % a.group or o[1] < 1 for o in at): p.error(f'--at should be pairs such as 64x160, completions a multiple of {a.group}, got {at}')
    wanted = [(a.models[0], *o) for o in dict.fromkeys([(n, a.new) for n in a.completions] + [(base, n) for n in a.lengths])]
    wanted += [(m, *o) for m in a.models[1:] for o in at]
    points, failed = [], []
    a.base, a.new = f'{base}x{a.new}', max(n for _, _, n in wanted) # the name says how far it goes
    def write(law=None): return save('growth', a, '+'.join(a.models), points=points, laws=law, failed=failed)
    for m, rows, new in wanted:
        try: points.append(apart(a, m, rows, new))
        except RuntimeError as e: # out of memory, too
            failed.append(dict(model=m, completions=rows, new=new, error=str(e).splitlines()[0]))
            print(f"{m}, {rows} x {new}: {failed[-1]['error']}", flush=True)
            continue
        o = points[-1]
        print(f"{m}, {rows} completions of up to {new}: {o['s']:.3g} s, {o['fed']:,.0f} tokens, " + (f"{o['peak_mb']:,.0f} MB" if o['peak_mb'] else 'memory unknown'), flush=True)
        write()
    if not points: sys.exit('no point could be measured')
    law = laws(points, a.group)
    print()
    table(['', 'completions', 'new', 'seconds', 'rollout', 'update', 'tokens', 'context', 'MB', 'floor'],
          [[o['model'], str(o['completions']), str(o['new']), o['s'], o['rollout_s'], o['update_s'], o['fed'], o['context'], o['peak_mb'], o['macs']/o['macs_per_s']] for o in points])
    for m, both in law.items():
        for what, c in both.items():
            if c: print(f'{m}: {what} = ' + ' + '.join(f'{v:.3g} {k}' for k, v in c.items() if k not in ('relative_error', 'points')) + f"  (mean error {c['relative_error']:.1%} of {c['points']} points)")
    print(f'written: {write(law)}')


if __name__ == '__main__': main()
