"""Where the seconds of our step go: matrix products, attention, other arithmetic, moving numbers, and what is no operation at all (Python, autograd, dispatch)."""
import re
from collections import Counter
from statistics import median
from torch.profiler import ProfilerActivity, profile
from common import Clock, Work, ours, parse, parser, save, table, update

KINDS = {'matrix products': r'mm|_?addmm.*|.*linear',
         'attention': r'bmm|baddbmm|_scaled_dot_product.*|_(flash|efficient)_attention.*',
         'moving numbers': r'cat|_?(to_)?copy_?|_?index.*|gather|scatter.*|masked.*|fill_|zero_|nonzero',
         'views and memory': r't|view|as_strided|empty.*|slice.*|select.*|transpose|split.*|expand|unsqueeze|_?reshape.*|flatten|unflatten|unbind|detach|resize_'}


def kind(name):
    "Of an event of the profiler."
    if not name.startswith('aten::'): return 'outside operations' # Autograd's nodes: what they call is counted itself
    return next((k for k, ops in KINDS.items() if re.fullmatch(ops, name[6:])), 'other arithmetic')


def spent(device, f):
    "Seconds of a call by kind, and the call's result."
    cuda, clock, by = device == 'cuda', Clock(device), Counter()
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA]*cuda]) as p:
        clock.lap()
        out = f()
        total = clock.lap()['s']
    for e in p.key_averages(): by[kind(e.key)] += (e.self_device_time_total if cuda else e.self_cpu_time_total)/1e6
    by['outside operations'] = max(0., total - sum(v for k, v in by.items() if k != 'outside operations'))
    return by, out


def main(argv=None):
    a = parse(parser(__doc__, repeats=3), argv)
    work = Work(a)
    loop, rows = ours(work), []
    for k in range(2): loop.step(k) # Warm
    for k in range(2, a.repeats + 2):
        rollout, ro = spent(a.device, lambda: work.sample(loop.model, k))
        batch = work.batch(ro, k)
        rows.append((rollout, spent(a.device, lambda: update(work.cfg, loop.model, work.reference, loop.optimizer, batch, k + 1))[0]))
    names = [*KINDS, 'other arithmetic', 'outside operations']
    parts = {half: {n: median(r[i][n] for r in rows) for n in names} for i, half in enumerate(('rollout', 'update'))}
    print(f'{a.model}, {a.prompts} x {a.group} completions of up to {a.new} tokens, {a.dtype}, {a.device}, medians of {a.repeats}, the profiler costs some itself')
    table(['', *(f'{h}, s' for h in parts), *(f'{h}, share' for h in parts)], [[n, *(p[n] for p in parts.values()), *(p[n]/sum(p.values()) for p in parts.values())] for n in names])
    print('written:', save('parts', a, parts=parts))


if __name__ == '__main__': main()
