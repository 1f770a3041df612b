"""Sampling from an adapter over weights in 4, 8 or all bits: layers asked as they are, or matrices taken out of them once a rollout. Processor time, and greedy tokens compared."""
import time
from statistics import median
from common import generate, load_model, load_tokenizer, parse, parser, prompts, torch, write
from grpo_nb.graph import choose_engine
from grpo_nb.lora import add_adapter, trained

WAYS = dict(active='plain', merged='packed')  # How the adapter takes part -> engine


def policy(bits, rank, seed, dtype='float32', device='cpu'):
    "The small model with an adapter that has something to say."
    model = add_adapter(load_model('small', dtype, device, bits=bits), rank)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in trained(model).values(): p.add_((.01*torch.randn(p.shape, generator=noise)).to(p))
    return model


def rows(ro): return [r[m > 0].tolist() for r, m in zip(ro.completion_ids, ro.mask)]


def measure(a, bits, tok, texts):
    "Seconds of the processor for a rollout either way, and how their tokens and log-probs compare."
    model, spent, said = policy(bits, a.rank, a.seed), {w: [] for w in WAYS}, {}
    for k in range(a.repeats + 1):
        for way, engine in WAYS.items():
            t0 = time.process_time()
            ro = generate(model, tok, texts, a.group, a.temperature, a.new, 1000*a.seed + k, engine=engine)
            spent[way].append((time.process_time() - t0)/int(ro.mask.sum()))
    for way, engine in WAYS.items(): said[way] = generate(model, tok, texts, 1, 0, a.new, engine=engine)
    one, two = (rows(said[w]) for w in WAYS)
    assert one == two, f'{bits} bits: greedy completions differ in {sum(x != y for x, y in zip(one, two))} of {len(one)} rows'
    apart = float(((said['active'].logps - said['merged'].logps)*said['active'].mask).abs().max())
    return dict(bits=bits, chosen=choose_engine(model), rows=len(one), tokens=sum(map(len, one)), apart=apart,
                microseconds={w: [round(1e6*s, 2) for s in ts[1:]] for w, ts in spent.items()}, medians={w: round(1e6*median(ts[1:]), 2) for w, ts in spent.items()})


def main(argv=None):
    p = parser(__doc__, models=False)
    p.add_argument('--rank', type=p.count, default=16, help='of the adapter')
    a = parse(p, argv)
    if a.device != 'cpu': p.error(f"--device should be cpu: the merged way is the CPU's engine, got '{a.device}'")
    tok = load_tokenizer('small')
    texts = prompts('small', tok, a.prompts)
    found = [measure(a, bits, tok, texts) for bits in (0, 4, 8)]
    for f in found: print(f"{f['bits'] or 32:>2} bits: {f['medians']['active']:.0f} µs a token active, {f['medians']['merged']:.0f} merged; "
                          f"{f['tokens']} greedy tokens equal, log-probs within {f['apart']:.1e}; chosen: {f['chosen']}")
    keep = ('new', 'repeats', 'prompts', 'group', 'temperature', 'threads', 'seed', 'rank')
    print('written:', write(a.out/'few_bits-small.json', 'few_bits', {k: getattr(a, k) for k in keep}, found=found))


if __name__ == '__main__': main()
