"""Where the memory of a worst step goes on a GPU, part by part, as predicted and as measured: random weights of a shape, a few settings."""
import gc
from common import build, installed, parse, parser, prompts, torch, write
from grpo_nb.graph import _slots
from grpo_nb.memory import measure, predict
from grpo_nb.settings import GRPOConfig

WAYS = {'as planned': {}, 'two groups': dict(groups=2), 'a group': dict(groups=1), 'recomputed': dict(groups=1, gradient_checkpointing=True)}


def main(argv=None):
    p = parser(__doc__)
    a = parse(p, argv)
    rows = {}
    for name, kw in WAYS.items():
        kw = {k: v for k, v in kw.items() if k != 'groups'} | (dict(micro_batch_size=kw['groups']*a.group) if kw else {})
        model, tok = build(a.model, a.device, a.dtype, a.seed)
        asked = tok(prompts(a.model, tok, a.prompts), padding=True, padding_side='left', add_special_tokens=False, return_tensors='pt').to(a.device)
        cfg = GRPOConfig(run_name='benchmark', model_name='small', batch_size=a.prompts, num_generations=a.group, max_new_tokens=a.new, beta=a.beta, device=a.device,
                         dtype=a.dtype, optimizer='adamw_8bit' if a.device == 'cuda' and installed('bitsandbytes') else 'adamw', **kw)
        parts, cfg, peaks = measure(cfg, model, asked.input_ids, asked.attention_mask)
        said = predict(model.config, cfg, asked.input_ids.shape[1], a.device)
        rows[name] = dict(micro_batch_size=cfg.micro_batch_size, recompute=cfg.gradient_checkpointing, measured={k: int(v) for k, v in parts.items()}, predicted={k: int(v) for k, v in said.max(axis=1).items()},
                          peaks=peaks, predicted_peaks=dict(sampling=int(said['sampling'].sum() - said.loc['optimizer', 'sampling']), # has no state yet
                                                             learning=int(max(said['forward'].sum(), said['backward'].sum()))))
        print(f"{name}: micro-batches of {cfg.micro_batch_size}, " + ', '.join(f"{k} {v/1e9:.1f} GB (predicted {rows[name]['predicted_peaks'][k]/1e9:.1f})" for k, v in peaks.items()), flush=True)
        del model
        _slots.clear()
        gc.collect()
        if a.device == 'cuda': torch.cuda.empty_cache()
    print('written:', write(a.out/f'memory-{a.model}-{a.device}.json', 'memory', {k: v for k, v in vars(a).items() if k not in ('out', 'defaults')}, a.device, rows=rows))


if __name__ == '__main__': main()
