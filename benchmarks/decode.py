"""Sampling alone, in turn: Hugging Face's `generate` on repeated prompts, its modules with the prompt read once and finished rows dropped, and our engine."""
from statistics import median
from common import (Clock, Work, build, copy_rate, floor, generate, hf_generate, matmul_rate, parse, parser, prompts, save, show, torch)
from grpo_nb.graph import choose_engine


@torch.no_grad()
def greedy_equal(a, new=24, n=2):
    "Token for token the same greedy completions, in float32 and with weights so wide that they are not dull?"
    model, tok = build(a.model, a.device, 'float32', a.seed, std=.1)
    texts = prompts(a.model, tok, 3)
    texts[-1] = texts[-1][len(texts[-1])//3:] # another length, so that padding matters
    ro, hf = generate(model, tok, texts, n=n, temperature=0, max_new_tokens=new), hf_generate(model, tok, texts, n, new, 0)
    one, two = ([r[m > 0].tolist() for r, m in zip(o.completion_ids, o.mask)] for o in (ro, hf))
    assert one == two, f'greedy completions differ in {sum(x != y for x, y in zip(one, two))} of {len(one)} rows'
    return dict(rows=len(one), tokens=sum(map(len, one)), distinct=len({t for r in one for t in r}))


def main(argv=None):
    p = parser(__doc__)
    p.add_argument('--static', action='store_true', help="also Hugging Face's static cache (on a GPU it compiles first)")
    a = parse(p, argv)
    equal = None
    if a.device == 'cpu' and a.dtype == 'float32' and a.model != '1.5B':
        equal = greedy_equal(a)
        print('greedy: {rows} rows, {tokens} tokens, {distinct} distinct ones, all equal'.format(**equal))
    work, rates = Work(a), []
    shared = lambda model, k: work.sample(model, k, engine='plain')
    ways = {'ours': work.sample, 'prompt once, rows dropped': shared, 'hf': work.hf_sample}
    if choose_engine(work.model) == 'compiled': ways['by torch'] = lambda model, k: work.sample(model, k, engine='packed')
    if a.static: ways['hf static'] = lambda model, k: work.hf_sample(model, k, cache_implementation='static')
    rows = {n: [] for n in ways}
    for k in range(a.repeats + 1):
        rates.append(matmul_rate(work.model.config, a.device, work.dtype))
        for n, sample in ways.items():
            clock = Clock(a.device)
            ro = sample(work.model, k)
            rows[n].append(dict(**clock.lap(), tokens=int(ro.mask.sum()), steps=ro.mask.shape[1], lengths=ro.mask.sum(1).int().tolist()))
    rows, rate = {n: r[1:] for n, r in rows.items()}, median(rates)
    bandwidth = copy_rate(a.device) if a.device == 'cuda' else None
    least = median(floor(work, r['lengths'], rate, bandwidth)['rollout'] for r in rows['ours'])
    print(f'\n{a.model}, {a.prompts} x {a.group} completions of up to {a.new} tokens, {a.dtype}, {a.device}, medians of {a.repeats}')
    medians = show(rows)
    print(f'floor {least:.3g} s: ' + ', '.join(f"{n} {m['s']/least:.2f} times" for n, m in medians.items()))
    print('written:', save('decode', a, repeats=rows, medians=medians, greedy=equal, floor=dict(seconds=least, macs_per_s=rate, bytes_per_s=bandwidth)))


if __name__ == '__main__': main()
