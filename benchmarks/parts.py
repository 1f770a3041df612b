"""Where the time of our step goes on a CPU: products with weights, attention, norms and gates in C, moving numbers, views, other arithmetic, and what is no operation at all (Python, autograd, dispatch)."""
import re, time
from collections import Counter
from statistics import median
from torch.profiler import ProfilerActivity, profile, record_function
from common import Work, ours, parse, parser, save, table, update
from grpo_nb.kernels import Shape
from grpo_nb.loops import kernels
from grpo_nb.passes import why_not_compiled

ATTENTION, LOOPS, ELSE, OUTSIDE = 'attention', 'norms and gates in C', 'other arithmetic', 'outside operations'
KINDS = {'products with weights': r'mm|_?addmm.*|.*linear', # Operations of torch, without aten::
         ATTENTION: r'bmm|baddbmm|_scaled_dot_product.*', # The fused kernel of the update has its softmax in it
         'moving numbers': r'cat|stack|_?(to_)?copy_?|clone|roll|_?index.*|gather|scatter.*|masked.*|fill_|zero_|nonzero',
         'views and memory': r't|view|as_strided|empty.*|slice.*|select.*|narrow|transpose|permute|split.*|expand|(un)?squeeze|_?reshape.*|(un)?flatten|unbind|alias|detach|contiguous|to|matmul|resolve_.*|resize_'}


def watched(loops):
    "Make the profiler see each call of compiled loops."
    for name, f in list(vars(loops).items()):
        def call(*args, f=f, kind=ATTENTION if name.startswith('look') else LOOPS):
            with record_function(kind): return f(*args)
        setattr(loops, name, call)


def spent(f):
    "Seconds of a call by kind, and the call's result. They add up to its time."
    by = Counter()
    with profile(activities=[ProfilerActivity.CPU]) as p:
        start = time.perf_counter()
        out = f()
        total = time.perf_counter() - start
    for e in p.key_averages():
        if e.key in (ATTENTION, LOOPS): by[e.key] += e.self_cpu_time_total/1e6
        if e.key.startswith('aten::'): by[next((k for k, ops in KINDS.items() if re.fullmatch(ops, e.key[6:])), ELSE)] += e.self_cpu_time_total/1e6
    return {**{k: by[k] for k in (*KINDS, LOOPS, ELSE)}, OUTSIDE: total - sum(by.values())}, out


def main(argv=None):
    p = parser(__doc__, repeats=3)
    a = parse(p, argv)
    if a.device != 'cpu': p.error(f'--device should be cpu, got {a.device!r}: recorded kernels do not say which operation they belong to')
    if a.threads > 1: p.error(f'--threads should be 1, got {a.threads}: the profile is of one thread')
    work = Work(a)
    loop, rows = ours(work), []
    if found := not why_not_compiled(work.model) and kernels(Shape.of(work.model.config)): watched(found)
    for k in range(2): loop.step(k) # Warm
    for k in range(2, a.repeats + 2):
        passed = work.kept(loop.model)
        rollout, ro = spent(lambda: work.sample(loop.model, k, passed=passed))
        batch = work.batch(ro, k, passed)
        rows.append((rollout, spent(lambda: update(work.cfg, loop.model, work.reference, loop.optimizer, batch, k + 1))[0]))
    parts = {half: {n: median(r[i][n] for r in rows) for n in rows[0][0]} for i, half in enumerate(('rollout', 'update'))}
    print(f'{a.model}, {a.prompts} x {a.group} completions of up to {a.new} tokens, {a.dtype}, medians of {a.repeats}; the profiler costs some itself')
    table(['', *(f'{h}, s' for h in parts), *(f'{h}, share' for h in parts)], [[n, *(p[n] for p in parts.values()), *(p[n]/sum(p.values()) for p in parts.values())] for n in rows[0][0]])
    print('written:', save('parts', a, parts=parts))


if __name__ == '__main__': main()
