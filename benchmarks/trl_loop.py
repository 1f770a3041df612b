"""TRL's GRPOTrainer on the same work, and the settings at which it was fastest."""
import contextlib, copy, gc, os, signal, tempfile
import torch
from common import CLIP, LEARNING_RATE, Clock, graded, installed

TRL = installed('trl')
MISSING = 'TRL is not installed, so its row is left out (pip install trl).'

# Where --tune starts from, and the fastest that it has found on a CPU; the results' files hold what was tried and its times.
BEST = {
    ('cpu', 'float32'): dict(micro=16, checkpointing=False, generate='hf', weights='float32', autocast=False),
    ('cpu', 'bfloat16'): dict(micro=16, checkpointing=False, generate='hf', weights='bfloat16', autocast=False),
    ('cuda', 'float32'): dict(micro=16, checkpointing=False, generate='hf', weights='float32', autocast=False),
    ('cuda', 'bfloat16'): dict(micro=16, checkpointing=False, generate='hf', weights='bfloat16', autocast=False)}


def candidates(device, dtype, rows):
    "Settings worth trying; on a GPU vLLM comes first where it is installed."
    best = BEST[device, dtype]
    ways = [best | dict(generate='paged')]
    if device == 'cuda':
        if installed('vllm'): yield best | dict(generate='vllm')
        else: print('vLLM is not installed, so TRL is not tried with it.')
    yield best
    for micro in (4, 8, 16, 32, 64):
        if micro != best['micro'] and rows % micro == 0: yield best | dict(micro=micro)
    yield best | dict(checkpointing=True)
    if dtype == 'bfloat16':
        for pair in ((w, c) for w in ('float32', 'bfloat16') for c in (True, False)):
            if pair != (best['weights'], best['autocast']): yield best | dict(weights=pair[0], autocast=pair[1])
    if device == 'cuda': yield best | dict(generate='static') # compiles first
    yield from ways # On a GPU it has failed in a way that disturbs what comes next


def run(work, s, steps, before=lambda k: None):
    "`steps` steps of GRPOTrainer with settings `s`: a row each. `before(k)` runs ahead of step k, outside of its time."
    from datasets import Dataset, disable_progress_bars
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer
    disable_progress_bars()
    a, rows, now = work.args, [], {}
    size, micro = a.prompts*a.group, min(s['micro'], a.prompts*a.group)

    def reward(prompts, completions, completion_ids, row, **_):
        now['lengths'] = [len(ids) for ids in completion_ids]
        return graded(completions, [work.problems[i*a.group] for i in row], a.group, len(rows))

    class Timer(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            before(len(rows))
            now.clear()
            now['clock'] = Clock(a.device)
        def on_step_end(self, args, state, control, **_):
            lap = now['clock'].lap()
            assert now.get('rollout') and len(now['lengths']) == size, 'generation did not fall inside the step'
            rows.append(dict(**lap, tokens=sum(now['lengths']), rollout_s=now['rollout'], update_s=lap['s'] - now['rollout'], lengths=now['lengths']))

    ways = dict(hf={}, static=dict(cache_implementation='static'), paged=dict(use_transformers_continuous_batching=True),
                vllm=dict(use_vllm=True, vllm_mode='colocate', vllm_gpu_memory_utilization=.3, vllm_max_model_length=2048))
    if s['generate'] == 'vllm':
        for k, v in dict(RANK='0', LOCAL_RANK='0', WORLD_SIZE='1', MASTER_ADDR='localhost', MASTER_PORT='29512').items(): os.environ.setdefault(k, v)
    with tempfile.TemporaryDirectory() as folder:
        model = copy.deepcopy(work.model).to(getattr(torch, s['weights']))
        model.save_pretrained(folder)
        work.tok.save_pretrained(folder)
        model.config._name_or_path = folder # with beta > 0 the reference is loaded from here
        args = GRPOConfig(output_dir=folder, use_cpu=a.device == 'cpu', bf16=s['autocast'], fp16=False, per_device_train_batch_size=micro,
            gradient_accumulation_steps=size//micro, steps_per_generation=size//micro, num_generations=a.group, max_completion_length=a.new,
            temperature=a.temperature, beta=a.beta, num_iterations=1, loss_type='grpo', scale_rewards='group', learning_rate=LEARNING_RATE,
            lr_scheduler_type='constant', max_grad_norm=CLIP, optim='adamw_torch_fused', gradient_checkpointing=s['checkpointing'],
            max_steps=steps, seed=a.seed, shuffle_dataset=False, save_strategy='no', logging_strategy='no', report_to=[], disable_tqdm=True,
            dataloader_pin_memory=False, **ways[s['generate']])
        data = Dataset.from_dict(dict(prompt=work.prompts*steps, row=[*range(a.prompts)]*steps))
        trainer = GRPOTrainer(model=model, reward_funcs=reward, args=args, train_dataset=data, processing_class=work.tok, callbacks=[Timer()])
        single = trainer._generate_single_turn
        def timed(*args, **kwargs):
            clock = Clock(a.device)
            with work.ending(len(rows)) if s['generate'] in ('hf', 'static') else contextlib.nullcontext(): out = single(*args, **kwargs)
            now['rollout'] = now.get('rollout', 0) + clock.lap()['s']
            return out
        trainer._generate_single_turn = timed
        assert torch.get_num_threads() == a.threads
        with open(os.devnull, 'w') as null, contextlib.redirect_stdout(null): trainer.train()
        del trainer, model
    gc.collect()
    if a.device == 'cuda': torch.cuda.empty_cache()
    return rows


def tune(work, seconds=None):
    "Time the second step of every candidate while `seconds` last, and give up one that takes as long, unless it hangs outside of Python; returns the fastest settings and all that was tried."
    clock, tried, spent = Clock('cpu'), [], 0
    def late(*_): raise TimeoutError(f'not done in {seconds:g} s')
    for s in candidates(work.args.device, work.args.dtype, work.args.prompts*work.args.group):
        if seconds is not None and spent > seconds*(1 if any(t['s'] for t in tried) else 4): break
        if seconds: signal.signal(signal.SIGALRM, late); signal.setitimer(signal.ITIMER_REAL, seconds)
        try: row = run(work, s, 2)[-1]
        except Exception as e: row = dict(s=None, error=f'{type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else ""}')
        finally: signal.setitimer(signal.ITIMER_REAL, 0)
        spent += clock.lap()['wall_s']
        per = row['s'] and 1000*row['s']/row['tokens']
        tried.append(dict(settings=s, s=row['s'], s_per_1000=per, rollout_s=row.get('rollout_s'), error=row.get('error')))
        print(', '.join(f'{k} {v}' for k, v in s.items()), f"| {row['s']:.2f} s, {per:.2f} a 1000 tokens" if per else f"| does not run: {row['error']}", flush=True)
    ran = [t for t in tried if t['s_per_1000']]
    if not ran: return None, tried
    return min(ran, key=lambda t: t['s_per_1000'])['settings'], tried
