"""The update alone, reference and optimizer included, on the same completions, in turn: the plain loop, padded groups, packed groups by autograd and by hand, ours."""
import copy
from dataclasses import replace
from unittest.mock import patch
from statistics import median
from common import (LEARNING_RATE, Clock, Work, floor, make_optimizer, matmul_rate, parse, parser, plain_backward, plain_update,
                    save, show, torch, train_mode, update)
from grpo_nb.packing import score
from grpo_nb.passes import why_not_compiled
from grpo_nb.step import backward, lessons_of, micro_batches, overall, planned, shape_of


def nothing_kept(cfg, model, reference, optimizer, batch, step):
    "Our update where sampling has left nothing."
    return update(cfg, model, reference, optimizer, replace(batch, passed=None), step)


def by_autograd(*args):
    "Our update without passes by hand."
    with patch('grpo_nb.packing.why_not_compiled', lambda model: 'on purpose'): return nothing_kept(*args)


def padded(*args):
    "Our update without packing either: padded groups, but logits for completions only and nothing recomputed."
    with patch('grpo_nb.packing.why_not', lambda model: 'on purpose'): return by_autograd(*args)


@torch.no_grad()
def shake(model, by=.2, seed=7):
    "Move every weight by a fifth of their spread, so that the KL term has a gradient."
    g = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    for p in model.parameters(): p.add_(torch.randn(p.shape, generator=g, device=p.device).to(p.dtype)*p.std()*by)


def gradients(work, batch):
    "Relative error |ours - plain| / |plain| of the whole gradient, in float64, the two losses, and how far they are apart: their terms are of size 1, their sum is near 0."
    model, cfg = work.model, work.cfg
    out = []
    for run, checkpointing in ((lambda: overall(backward(cfg, model, work.reference, batch, [], groups=lessons_of(cfg, batch)))["loss"], False),
                (lambda: plain_backward(model, work.reference, batch.rollout, batch.advantages, cfg.beta, cfg.temperature), True)):
        with train_mode(model, checkpointing): loss = run()
        out.append((loss, [p.grad for p in model.parameters()]))
        model.zero_grad(set_to_none=True)
    (ours, mine), (plain, theirs) = out
    apart, size = (sum(float(f(x, y).double().square().sum()) for x, y in zip(mine, theirs))**.5 for f in (lambda x, y: x.float() - y, lambda x, y: y.float()))
    return dict(error=apart/size, norm=size, loss=ours, plain_loss=plain, loss_error=abs(ours - plain))


@torch.no_grad()
def reference_alone(work, ro):
    "The reference's part of our update."
    cfg = planned(work.cfg, work.model, *shape_of(ro, work.args.group))
    for rows, parts in micro_batches(ro, cfg.micro_batch_size, work.args.group): score(work.reference, *parts, cfg.temperature, groups=max(1, len(rows)//work.args.group))


def main(argv=None):
    p = parser(__doc__)
    a = parse(p, argv)
    allowed = 1e-5 if a.device == 'cpu' else 1e-4 # of the float32 gradient
    work, rates = Work(a), []
    if a.beta: shake(work.reference)
    passed = work.kept(work.model)
    error = gradients(work, work.batch(work.sample(work.model, 0, passed=passed), 0, passed))
    print('gradient: relative error {error:.2g}, norm {norm:.3g}, losses {loss:.6g} and {plain_loss:.6g}'.format(**error))
    for what, is_ in (("the gradient's relative error", error['error']), ("the losses' difference", error['loss_error'])):
        assert a.dtype != 'float32' or is_ <= allowed, f'{what} {is_:.2g} should be at most {allowed:.2g}'
    by_hand = {'nothing kept': nothing_kept, 'by autograd': by_autograd} if not why_not_compiled(work.model) else {}
    ways = dict(ours=update, **by_hand, padded=padded, plain=plain_update)
    rows, refs = {n: [] for n in ways}, []
    models = {n: copy.deepcopy(work.model) for n in ways}
    optimizers = {n: make_optimizer(m, LEARNING_RATE, 'adamw') for n, m in models.items()}
    for k in range(a.repeats + 1):
        rates.append(matmul_rate(work.model.config, a.device, work.dtype))
        passed = work.kept(models['ours'])
        batch = work.batch(work.sample(models['ours'], k, passed=passed), k, passed)
        for n, learn in ways.items():
            clock = Clock(a.device)
            learn(work.cfg, models[n], work.reference, optimizers[n], batch, k + 1)
            rows[n].append(dict(**clock.lap(), tokens=int(batch.rollout.mask.sum()), lengths=batch.rollout.mask.sum(1).int().tolist()))
        if a.beta:
            clock = Clock(a.device)
            reference_alone(work, batch.rollout)
            refs.append(clock.lap()['s'])
    rows, rate = {n: r[1:] for n, r in rows.items()}, median(rates)
    least = median(floor(work, r['lengths'], rate)['update'] for r in rows['ours'])
    print(f'\n{a.model}, {a.prompts} x {a.group} completions of up to {a.new} tokens, {a.dtype}, {a.device}, medians of {a.repeats}')
    medians = show(rows)
    print(f'floor {least:.3g} s: ' + ', '.join(f"{n} {m['s']/least:.2f} times" for n, m in medians.items()))
    if refs: print(f'of ours, the reference alone: {median(refs[1:]):.3g} s')
    print('written:', save('update', a, repeats=rows, medians=medians, gradient=error, reference_s=median(refs[1:]) if refs else None, floor=dict(seconds=least, macs_per_s=rate)))


if __name__ == '__main__': main()
