"""Are the paths on this device right? Greedy tokens, gradients, log-probs, layers in few bits and bfloat16 training steps of the shipped small model."""
import sys
from common import (Work, build, generate, hf_generate, installed, make_optimizer, parse, parser, prompts, torch, update, write)
from grpo_nb.bits import bits_of, dense_weight
from grpo_nb.models import load_model, load_tokenizer
from grpo_nb.objective import token_logps
from few_bits import policy, rows
from update import gradients, shake


def greedy(a, dtype):
    "Share of rows whose greedy tokens are those of `model.generate`."
    model, tok = build('small', a.device, dtype)
    texts = prompts('small', tok, 4)
    texts[0] += ' <think>' # prompts of two lengths, so that padding matters
    ro, hf = generate(model, tok, texts, n=2, temperature=0, max_new_tokens=a.new), hf_generate(model, tok, texts, 2, a.new, 0)
    one, two = rows(ro), rows(hf)
    return sum(x == y for x, y in zip(one, two))/len(one)


def drift(work):
    "Largest difference between the log-probs that came with the samples and those of one padded forward."
    a = work.args
    ro = generate(work.model, work.tok, work.prompts, n=a.group, temperature=a.temperature, max_new_tokens=a.new, seed=1)
    with torch.no_grad(): again = token_logps(work.model, ro.prompt_ids, ro.prompt_mask, ro.completion_ids, ro.mask, a.temperature)
    return float((again - ro.logps).abs().max())


def train(work, optimizer, steps=2):
    "Steps with fp32 masters behind the weights: finite numbers, moved masters, weights that are their rounding."
    opt = make_optimizer(work.model, 1e-4, optimizer)
    before = {n: m.clone() for n, m in opt.masters.items()}
    for k in range(steps): stats = update(work.cfg, work.model, work.reference, opt, work.batch(work.sample(work.model, k), k), k + 1)
    moved = sum(bool((m != before[n]).any()) for n, m in opt.masters.items())/len(before)
    rounded = all(torch.equal(p, m.to(p.dtype)) for p, m in opt.pairs())
    assert opt.pairs(), 'bfloat16 weights should have masters'
    apart = drift(work) # A recorded step must read the new weights
    assert apart <= .5, f'after training, sampled log-probs are {apart:.3g} off'
    assert moved == 1 and rounded, f'{moved:.0%} of the masters moved; weights are their rounding: {rounded}'
    return f"loss {stats['loss']:.3g}, gradient norm {stats['grad_norm']:.3g}"


def recorded(a, dtype, bits):
    "Share of rows whose greedy tokens are the same from recorded steps as from the library's own pass."
    model, tok = policy(bits, 8, 0, dtype, a.device), load_tokenizer('small')
    one, two = (rows(generate(model, tok, prompts('small', tok, 4), n=4, temperature=0, max_new_tokens=a.new, engine=e)) for e in ('graph', 'plain'))
    return sum(x == y for x, y in zip(one, two))/len(one)

def kernel(a, dtype, n):
    "Relative difference of bitsandbytes' 4-bit product from the product with the matrix that the bits stand for."
    model = load_model('small', dtype, a.device, bits=4)
    layer = next(m for m in model.modules() if bits_of(m))
    x = torch.randn(n, layer.in_features, device=a.device, dtype=model.dtype)
    right = torch.nn.functional.linear(x, dense_weight(layer).to(x.dtype), layer.bias)
    return float((type(layer).forward(layer, x) - right).norm()/right.norm())

def elsewhere(a, bits):
    "Largest relative difference of the matrices that a layer stands for when quantised here and on the CPU."
    here, there = ([dense_weight(m).cpu() for m in load_model('small', 'float32', d, bits=bits).modules() if bits_of(m)] for d in (a.device, 'cpu'))
    return max(float((x - y).norm()/y.norm()) for x, y in zip(here, there))


def main(argv=None):
    p = parser(__doc__, models=False)
    a = parse(p, argv)
    a.model, checks = 'small', []

    def check(name, run, ok=lambda v: True):
        try: value = run(); good = ok(value)
        except Exception as e: value, good = f'{type(e).__name__}: {e}', False
        checks.append(dict(check=name, value=value, ok=bool(good)))
        print(f"{'ok    ' if good else 'FAILED'} {name}: {f'{value:.3g}' if isinstance(value, float) else value}", flush=True)

    for dtype, same, error, apart in (('float32', 1, 1e-4, 1e-3), ('bfloat16', .5, .1, .5)):
        a.dtype = dtype
        check(f'{dtype}: share of greedy completions equal to those of model.generate', lambda: greedy(a, dtype), lambda v: v >= same)
        work = Work(a)
        shake(work.reference)
        check(f'{dtype}: relative error of the gradient against the plain loop', lambda: gradients(work, work.batch(work.sample(work.model, 0), 0))['error'], lambda v: v <= error)
        check(f'{dtype}: sampled log-probs against recomputed ones, largest difference', lambda: drift(work), lambda v: v <= apart)
    eight = installed('bitsandbytes') and a.device == 'cuda'
    if not installed('bitsandbytes'): print('bitsandbytes is not installed, so only the fused AdamW is checked.')
    for kind in ('adamw', *(['adamw_8bit'] if eight else [])):
        check(f'bfloat16: training steps with {kind}', lambda: train(Work(a), kind))
    for bits in (0, 4, 8) if eight else (0,):
        over = f'adapter over {bits or 32} bits'
        check(f'float32, {over}: share of greedy completions that recorded steps give as the library does', lambda: recorded(a, 'float32', bits), lambda v: v == 1)
        check(f'bfloat16, {over}: the same', lambda: recorded(a, 'bfloat16', bits), lambda v: v >= .5)
        if bits: check(f'{bits} bits: matrices quantised here and on the CPU, largest relative difference', lambda: elsewhere(a, bits), lambda v: v <= 1e-3)
    for dtype, most in (('float32', 1e-5), ('bfloat16', .01)) if eight else ():
        for n in (2, 512): check(f"{dtype}, {n} rows: bitsandbytes' 4-bit product against the matrix's, relative", lambda: kernel(a, dtype, n), lambda v: v <= most)
    settings = {k: v for k, v in vars(a).items() if k not in ('out', 'defaults')}
    print('written:', write(a.out/f'cuda_check-{a.device}.json', 'cuda_check', settings, a.device, checks=checks))
    if bad := sum(not c['ok'] for c in checks): sys.exit(f'{bad} checks failed')


if __name__ == '__main__': main()
