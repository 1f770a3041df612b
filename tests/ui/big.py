"A run folder as long training leaves it, made in seconds without training: its texts are composed, its grades are real."
import math, random
from dataclasses import asdict
import torch
from grpo_nb.objective import group_advantages
from grpo_nb.problems import solve
from grpo_nb.rewards import format_ok, grade, safe_eval
from grpo_nb.rollouts import Rollout
from grpo_nb.runs import Run
from grpo_nb.settings import GRPOConfig
from grpo_nb.step import Batch, completion_rows, metrics_row
from grpo_nb.stream import step_problems

# Reasoning and answer; s solves the puzzle, w has its numbers and another value, p is a part of w
RIGHT = ['<think> {w} = {v} {miss} {s} = {t} yes </think> <answer> {s} </answer>',
         '<think> {p} = {u} {w} = {v} {miss} so we want {s} = {t} yes </think> <answer> {s} </answer>',
         '<think> {s} = {t} yes </think>\n<answer> {s} </answer>',
         '<think> {w} = {v} {miss} that will not do </think> <answer> {s} </answer>']
WRONG = ['<think> {w} = {v} {miss} that will do </think> <answer> {w} </answer>', '<think> {w} = {t} yes </think> <answer> {w} </answer>',
         '<think> {p} = {u} {miss} {w} = {v} {miss} {w} = {v} {miss} {w} = {v}', '<think> {w} = {v} {miss} </think>',
         '<think> {p} = {u} yes </think> <answer> {p} </answer>', '<think> {s} + {a} = {t} yes </think> <answer> {s} + {a} </answer>',
         '<think> {t} + 99 - 99 = {t} yes </think> <answer> {t} + 99 - 99 </answer>', '<think> {w} = {v} {miss} </think> <answer> {w} + </answer>',
         '<think> {s} = {t} yes </think> <answer> {s} = {t} </answer>', '{s} = {t} <answer> {s}']

def texts_of(p):
    "Completions of a puzzle that are right, and others that fail in every way."
    a, b, *rest = p.nums
    w, *_ = sorted((' '.join(map(str, [a, o, b, *(x for n in rest for x in ('+', n))])) for o in '+-*'), key=lambda e: safe_eval(e) == p.target)
    part, v = f'{a} * {b}', safe_eval(w)
    words = dict(a=a, w=w, v=v, p=part, u=a*b, s=solve(p)[0], t=p.target, miss='too small' if v < p.target else 'too large')
    return [[t.format(**words) for t in ts] for ts in (RIGHT, WRONG)]

def big_run(run_name='big', steps=780, outputs=None, seed=0):
    "A finished run of `steps` x 64 completions whose accuracy rises."
    cfg = GRPOConfig.for_model(run_name=run_name, model_name='small', iterations=steps, seed=seed)
    run, rng, G, N = Run.start(run_name, asdict(cfg), outputs=outputs), random.Random(seed), cfg.num_generations, cfg.max_new_tokens
    for step in range(1, steps + 1):
        skill = .1 + .6*(1 - math.exp(-3*step/steps))
        problems = [p for p in step_problems(cfg, step) for _ in range(G)]
        known = {p:texts_of(p) for p in problems}
        texts = [rng.choice(known[p][rng.random() > skill]) for p in problems]
        lengths = torch.tensor([min(N, len(t.split())) for t in texts])
        truncated = torch.tensor(['<answer>' in t and '</answer>' not in t or '</think>' not in t for t in texts])
        grades = [grade(t, p, cfg.prompt_format, truncated=bool(c)) for t,p,c in zip(texts, problems, truncated)]
        rollout = Rollout(None, None, None, (torch.arange(N) < lengths[:,None]).float(), None, texts, truncated)
        advantages = group_advantages(torch.tensor([g.reward for g in grades]), G)
        batch = Batch(rollout, problems, grades, [format_ok(t, cfg.prompt_format) for t in texts], advantages, cfg.prompt_format, .1, .001)
        moved = dict(loss=0., kl=.02*step/steps, entropy=.35 - .2*skill, clip_fraction=0., grad_norm=.4, learning_rate=cfg.learning_rate, update_s=.3)
        run.log_completions(completion_rows(batch, step))
        run.log_metrics(metrics_row(cfg, batch, moved, step))
        run.heartbeat(step=step)
    return run.finish('done', step=steps, saved=steps, stopped=None)
