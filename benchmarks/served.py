"""Another engine beside ours: does vLLM, in the same process, have the policy's weights, say what the policy says, and draw what the policy would draw?

    python benchmarks/served.py --dtype bfloat16

Every guard of `grpo_nb.served` against a real vLLM: greedy parity, distance of the log-probs, draws against the softmax,
weights that moved, an adapter merged in, a tensor that is kept back; then seconds of a rollout and of handing the weights over."""
import time
from statistics import median
from common import build, parse, parser, problems, prompts, save, torch
from scipy.stats import chi2
from grpo_nb.lora import add_adapter, plain_model, trained
from grpo_nb.prompts import make_prompt
from grpo_nb.rollouts import full_logps, generate
from grpo_nb.served import check_parity, logp_gap
from grpo_nb.vllm_engine import VLLMEngine

DRAWS, HOT, RARE = 8192, 2., 8  # First tokens drawn of each prompt, at this temperature; tokens expected less often than the last are counted as one


def move(params, share, seed):
    "Change weights by a share of their spread."
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in params:
            d = torch.randn(p.shape, generator=noise).to(p)
            p.add_(d*(share*p.std() if p.std() > 0 else share))


def gap(engine, model, tok, texts, a):
    "How far the two are apart on what the engine draws."
    ro = engine.generate(model, tok, texts, a.group, a.temperature, a.new, a.seed)
    return logp_gap(full_logps(model, ro, a.temperature), ro.logps, ro.mask)


def draws(engine, model, tok, texts, a):
    "First tokens that the engine draws against the policy's softmax: chi-square over all prompts, its p and the cells."
    stat, cells = 0., 0
    for k, text in enumerate(texts):
        ids = engine.generate(model, tok, [text], DRAWS, HOT, 1, a.seed + k).completion_ids[:,0].cpu()
        with torch.no_grad(): logits = plain_model(model)(**tok([text], return_tensors='pt', add_special_tokens=False).to(model.device)).logits[0,-1]
        wanted = (logits.float().cpu()/HOT).softmax(-1).double()*DRAWS
        often = wanted >= RARE
        seen, wanted = (torch.cat([t[often], t[~often].sum()[None]]) for t in (torch.bincount(ids, minlength=len(wanted)).double(), wanted))
        stat, cells = stat + float(((seen - wanted)**2/wanted).sum()), cells + len(seen)
    return dict(draws=DRAWS*len(texts), cells=cells, chi2=stat, p=float(chi2.sf(stat, cells - len(texts))))


def kept_back(engine, model):
    "What is said when one tensor, the value rows of a fused matrix, does not reach vLLM."
    load, name = engine.load, next(n for n, _ in plain_model(model).named_parameters() if 'v_proj.weight' in n)
    engine.load = lambda named: load({n: w for n, w in named.items() if n != name})
    move(trained(model).values(), .01, 3)
    try: engine.sync(model)
    except RuntimeError as e: return str(e)
    finally: engine.load = load
    return ''


def seconds(engine, model, tok, texts, a):
    "Of a rollout by either, by turns, and of handing over weights that moved."
    clock = time.perf_counter if a.device == 'cuda' else time.process_time
    spent = dict(ours=[], vllm=[], sync=[])
    def timed(what, f):
        t0 = clock()
        res = f()
        if a.device == 'cuda': torch.cuda.synchronize()
        spent[what].append((clock() - t0)/(1 if what == 'sync' else int(res.mask.sum())))
    for k in range(a.repeats + 1):
        move(trained(model).values(), .001, 10 + k)
        timed('sync', lambda: engine.sync(model))
        for what, who in (('ours', generate), ('vllm', engine.generate)):
            timed(what, lambda: who(model, tok, texts, a.group, a.temperature, a.new, 1000*a.seed + k))
    return {k: [round(1e6*s, 2) for s in v[1:]] for k, v in spent.items()}


def main(argv=None):
    p = parser(__doc__.partition('\n')[0])
    p.set_defaults(model='small')
    p.add_argument('--memory', type=float, default=.2, help="share of the device's memory that vLLM may take")
    a = parse(p, argv)
    model, tok = build(a.model, a.device, a.dtype, a.seed)
    texts = prompts(a.model, tok, a.prompts)
    asked = [make_prompt(q, tok, 'zero-shot') for q in problems(32, 1)] if a.model == 'small' else prompts(a.model, tok, 32)
    lax = dict(least=0, most=99) if a.model != 'small' else {}  # Random weights have ties everywhere
    t0 = time.perf_counter()
    engine = VLLMEngine(model, length=max(map(len, tok(asked + texts).input_ids)) + a.new, memory=a.memory)
    made = dict(made_s=round(time.perf_counter() - t0, 1))
    made['parity'] = check_parity(engine, model, tok, asked, a.new, **lax)
    made['gap'] = gap(engine, model, tok, texts, a)
    made['draws'] = draws(engine, model, tok, texts, a)
    move(trained(model).values(), .02, 1)
    assert engine.sync(model) and not engine.sync(model)
    engine.sleep()  # On a GPU everything is gone then
    made['parity_moved'] = check_parity(engine, model, tok, asked, a.new, **lax)
    made['kept_back'] = kept_back(engine, model)
    made['micros'] = seconds(engine, model, tok, texts, a)
    add_adapter(model, 16)
    move(trained(model).values(), .02, 2)
    made['parity_adapter'], made['gap_adapter'] = check_parity(engine, model, tok, asked, a.new, **lax), gap(engine, model, tok, texts, a)
    for k in ('parity', 'parity_moved', 'parity_adapter'): print(f"{k}: {made[k]['tokens']:.1%} of the tokens, log-probs {made[k]['mean']:.1e} apart, at most {made[k]['max']:.1e}")
    for k in ('gap', 'gap_adapter'): print(f"{k}: log-probs of draws {made[k]['mean']:.1e} apart, at most {made[k]['max']:.1e}")
    print(f"draws: {made['draws']}\nkept back: {made['kept_back'] or 'NOT NOTICED'}")
    print(', '.join(f'{k}: {median(v):,.0f} µs' + (' a token' if k != 'sync' else '') for k, v in made['micros'].items()))
    print('written:', save('served', a, **made))


if __name__ == '__main__': main()
