"""A step of training in full, of an adapter, and of an adapter over 4 or 8 bits, each in a process of its own: seconds and peak memory.

    python benchmarks/adapters.py --model tiny                                           # a minute on a CPU
    python benchmarks/adapters.py --model 1.5B --dtype bfloat16 --new 160 --device cuda  # needs a GPU and bitsandbytes

Random weights of a shape are saved once and loaded four times, as a run loads its model, so nothing else is in memory. The work
is a whole step: sampling, reference, update. On a GPU the optimizer is the 8-bit one and the peak is torch's; on a CPU the
fused AdamW and the process's.
"""
import json, subprocess, sys, tempfile
from statistics import median
from types import SimpleNamespace
import torch
from common import CLIP, LEARNING_RATE, Clock, GRPOConfig, Work, build, ending, generate, installed, lengths, load_model, load_reference, load_tokenizer, make_optimizer, parse, parser, problems, prompts, update, write
from grpo_nb.lora import add_adapter, trained
from grpo_nb.step import peak_rss

WAYS = {'in full': dict(rank=0, bits=0), 'adapter': dict(rank=16, bits=0), 'adapter over 4 bits': dict(rank=16, bits=4), 'adapter over 8 bits': dict(rank=16, bits=8)}


def child(a):
    "One way, measured; a line of JSON."
    rank, bits, cuda = WAYS[a.way]['rank'], WAYS[a.way]['bits'], a.device.startswith('cuda')
    tok, model = load_tokenizer('small'), add_adapter(load_model(a.folder, a.dtype, a.device, bits=bits), rank)
    ref, opt = load_reference(model) if a.beta else None, make_optimizer(model, LEARNING_RATE, 'adamw_8bit' if cuda and installed('bitsandbytes') else 'adamw')
    cfg = GRPOConfig(run_name='benchmark', model_name='small', batch_size=a.prompts, num_generations=a.group, max_new_tokens=a.new, temperature=a.temperature, beta=a.beta, learning_rate=LEARNING_RATE,
                     clip_grad_norm=CLIP, optimizer='adamw', device=a.device, dtype=a.dtype, lora_rank=rank, load_in_4bit=bits == 4, load_in_8bit=bits == 8)
    task = SimpleNamespace(args=a, problems=[p for p in problems(a.prompts) for _ in range(a.group)])
    rows, clock, texts = [], Clock(a.device), prompts(a.model, tok, a.prompts)
    for k in range(a.repeats + 1):
        clock.lap()
        with ending(lengths(a, k), [tok.eos_token_id], a.device): ro = generate(model, tok, texts, n=a.group, temperature=a.temperature, max_new_tokens=a.new, seed=1000*a.seed + k)
        sampling = clock.lap()['s']
        update(cfg, model, ref, opt, Work.batch(task, ro, k), 1)
        rows.append(dict(sampling_s=sampling, learning_s=clock.lap()['s']))
    rows = rows[1:]
    weights = sum(t.untyped_storage().nbytes() for t in {t.data_ptr():t for t in (*model.parameters(), *model.buffers())}.values())
    print(json.dumps(dict({k:median(r[k] for r in rows) for k in rows[0]}, step_s=median(sum(r.values()) for r in rows), weights_mb=weights/2**20, trained=sum(p.numel() for p in trained(model).values()),
                          peak_mb=(torch.cuda.max_memory_allocated() if cuda else peak_rss())/2**20)))


def main(argv=None):
    p = parser(__doc__, repeats=3)
    p.add_argument('--way', choices=WAYS, help='one of the four, in this process')
    p.add_argument('--folder', help='its weights')
    a = parse(p, argv)
    if a.way: return child(a)
    given, rows = sys.argv[1:] if argv is None else [str(o) for o in argv], {}
    with tempfile.TemporaryDirectory() as folder:
        build(a.model, 'cpu' if a.model != '1.5B' else a.device, a.dtype, a.seed)[0].save_pretrained(folder)
        if torch.cuda.is_available(): torch.cuda.empty_cache()
        for way in WAYS:
            done = subprocess.run([sys.executable, __file__, *given, '--way', way, '--folder', folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                print(f'{way}: not measured ({(done.stderr.strip().splitlines() or ["no word"])[-1]})')
                continue
            rows[way] = json.loads(done.stdout.strip().splitlines()[-1])
            print(f"{way:<20} {rows[way]['step_s']:6.2f} s a step, peak {rows[way]['peak_mb']:.0f} MB, weights {rows[way]['weights_mb']:.0f} MB, {rows[way]['trained']:,} numbers trained", flush=True)
    settings = {k:v for k, v in vars(a).items() if k not in ('out', 'way', 'folder', 'defaults')}
    print('written:', write(a.out/f'adapters-{a.model}-{a.device.split(":")[0]}.json', 'adapters', settings, a.device, rows=rows))
    return 0 if len(rows) == len(WAYS) else 1


if __name__ == '__main__': raise SystemExit(main())
