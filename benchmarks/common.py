"""What the benchmarks share: models with random weights, the plain loop, clocks, floors and result files."""
import argparse, contextlib, copy, json, math, os, platform, random, sys, time, types, warnings
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault('OMP_NUM_THREADS', '1')  # read when torch is imported
os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
warnings.filterwarnings('ignore', category=FutureWarning)
import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM


def _stand_ins():
    "A bare GPU machine has torch and transformers only: of fastcore the library needs `patch` here, of pandas nothing."
    def patch(f): setattr(next(iter(f.__annotations__.values())), f.__name__, f)
    for name, members in (('fastcore.basics', dict(patch=patch)), ('pandas', {})):
        try: __import__(name)
        except ImportError:
            for part in dict.fromkeys((name.split('.')[0], name)): sys.modules[part] = types.ModuleType(part)
            vars(sys.modules[name]).update(members)

_stand_ins()
from grpo_nb.models import generate_mode, load_model, load_reference, load_tokenizer, train_mode
from grpo_nb.objective import group_advantages, grpo_loss, loss_weights
from grpo_nb.optimizer import make_optimizer
from grpo_nb.problems import sample_problem
from grpo_nb.prompts import make_prompt
from grpo_nb.provenance import code_state
from grpo_nb.rewards import format_ok, grade, reward_function
from grpo_nb.rollouts import Rollout, _stop_ids, generate
from grpo_nb.settings import GRPOConfig
from grpo_nb.step import Batch, update, worth_keeping

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

CHUNK = 4          # Rows of one forward and backward pass in the plain loop
HAZARD = .011      # P(end) at each token: mean length 46 of 64, 75 of 160
LEARNING_RATE, CLIP = 1e-6, .5
SHAPES = {
    'tiny': dict(hidden_size=192, intermediate_size=512, num_hidden_layers=5, num_attention_heads=6, vocab_size=1024),
    '30M': dict(hidden_size=512, intermediate_size=1536, num_hidden_layers=8, num_attention_heads=8, vocab_size=16384),
    '1.5B': dict(hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, vocab_size=151936, rope_theta=1e6)}
MODELS = ('small', *SHAPES)
PROMPT_TOKENS = {'tiny': 133, '30M': 133, '1.5B': 150}


# Models and prompts

def build(name, device='cpu', dtype='float32', seed=0, std=.02):
    "A model and a tokenizer whose ids are all in its vocabulary: `small` is the shipped model, the others are Qwen2 shapes with weights N(0, std²) from `seed`."
    tok = load_tokenizer('small')
    if name == 'small': return load_model('small', dtype, device), tok
    cfg = Qwen2Config(**SHAPES[name], num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-6, initializer_range=std,
        max_position_embeddings=32768, bos_token_id=None, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)
    cuda = [torch.device(device)] if torch.device(device).type == 'cuda' else []
    with torch.random.fork_rng(cuda), torch.device(device):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(cfg).eval()
    return model.to(getattr(torch, dtype)), tok


def hazard_for(new, share=.72):
    "The hazard at which the mean length is `share` of `new` tokens."
    low, high = 1e-7, 1.
    for _ in range(60):
        q = (low*high)**.5
        low, high = (q, high) if (1 - (1 - q)**new)/q > share*new else (low, q)
    return q


def lengths(a, k, hazard=HAZARD):
    "Tokens of each completion of repeat `k`, the same for every program: the chance to end is `hazard` at each, and `a.new` is the most."
    rng = random.Random(f'lengths {a.seed} {k}')
    return [min(a.new, 1 + int(math.log(1 - rng.random())/math.log1p(-hazard))) for _ in range(a.prompts*a.group)]


class Ends(transformers.LogitsProcessor):
    "For `model.generate`: no end before a row's time, and nothing else then."
    def __init__(self, last, stops): self.last, self.stops, self.start = last, stops, None
    def __call__(self, ids, scores):
        if self.start is None: self.start = ids.shape[1]
        return end_at(scores, self.last == ids.shape[1] - self.start + 1, self.stops)

def end_at(logits, now, stops):
    "Give the first of `stops` all of the probability where `now` (R,), and all of them none elsewhere."
    for t in stops: logits[:,t] = -1e4 # By a list they would be copied to a GPU each time
    logits[:,stops[0]] = now*2e4 - 1e4
    return logits


@contextlib.contextmanager
def ending(lengths, stops, device='cpu'):
    "Within, whoever samples draws completions of these lengths. To our engines, which drop and reorder rows, a dart above 1 is the word that a row's time has come."
    from grpo_nb import engine, rollouts
    last = torch.tensor(lengths, device=device)
    processors, darts, draw = transformers.GenerationMixin._get_logits_processor, rollouts.darts, engine.draw
    def with_end(*args, **kwargs):
        found = processors(*args, **kwargs)
        found.append(Ends(last, stops))
        return found
    def with_word(seed, prompts, n, new, coming=None): return darts(seed, prompts, n, new, coming) + 2*(torch.arange(new) + 1 == last[:,None].cpu())
    def obeyed(logits, u, temperature, **cut): return draw(end_at(logits, u >= 2, stops), u%2, temperature, **cut)
    with patch.object(transformers.GenerationMixin, '_get_logits_processor', with_end), patch.object(rollouts, 'darts', with_word), patch.object(engine, 'draw', obeyed): yield


def problems(count, seed=0):
    "Countdown puzzles, always the same."
    rng = random.Random(f'benchmark {seed}')
    return [sample_problem(rng, 3, 'train') for _ in range(count)]


def prompts(name, tok, count):
    "`small`: real zero-shot prompts; else texts of numbers, `PROMPT_TOKENS` tokens each."
    if name == 'small': return [make_prompt(p, tok, 'zero-shot') for p in problems(count)]
    rng, n = random.Random('prompts'), PROMPT_TOKENS[name]
    texts = [''.join(f' {rng.randrange(101)}' for _ in range(n)) for _ in range(count)]
    assert all(len(ids) == n for ids in tok(texts, add_special_tokens=False).input_ids)
    return texts


def graded(texts, probs, group, seed):
    "Grade R texts as training does, then return seeded rewards instead, half 1 and half 0 in each group: random weights earn none."
    reward_function(texts, probs, 'zero-shot')
    rng, half = random.Random(f'rewards {seed}'), group//2
    return [float(r) for _ in range(len(texts)//group) for r in rng.sample([0]*half + [1]*(group - half), group)]


# The plain loop

@torch.no_grad()
def hf_generate(model, tok, texts, n, new, temperature, **kwargs):
    "`Rollout` of `model.generate` on repeated prompts, (len(texts)*n rows); temperature 0 is greedy. Has no log-probs."
    enc = tok(texts, padding=True, padding_side='left', add_special_tokens=False, return_tensors='pt').to(model.device)
    ids, seen = (enc[k].repeat_interleave(n, 0) for k in ('input_ids', 'attention_mask'))
    how = dict(do_sample=True, temperature=temperature, top_k=0, top_p=1.) if temperature else dict(do_sample=False)
    with generate_mode(model):
        out = model.generate(input_ids=ids, attention_mask=seen, max_new_tokens=new, **how, **kwargs)[:,ids.shape[1]:]
    end = out == tok.eos_token_id
    mask = (end.cumsum(1) - end.long()) == 0
    out = out.masked_fill(~mask, tok.pad_token_id)
    said = tok.batch_decode([r[:k] for r, k in zip(out.tolist(), mask.sum(1).tolist())], skip_special_tokens=True)
    return Rollout(prompt_ids=ids, prompt_mask=seen, completion_ids=out, mask=mask.float(), logps=torch.zeros_like(mask, dtype=torch.float),
                   texts=said, truncated=~end.any(1))


def plain_logps(model, ro, rows, temperature):
    "Log-probs (r,T) of some rows by full logits at every position."
    ids = torch.cat([ro.prompt_ids[rows], ro.completion_ids[rows]], 1)
    seen = torch.cat([ro.prompt_mask[rows], torch.ones_like(ro.completion_ids[rows])], 1)
    logits = model(input_ids=ids, attention_mask=seen, position_ids=(seen.cumsum(1) - 1).clamp_min(0), use_cache=False).logits[:,:-1]
    logps = (logits.float()/temperature).log_softmax(-1).gather(-1, ids[:,1:,None])[...,0]
    return logps[:,-ro.mask.shape[1]:].masked_fill(ro.mask[rows] == 0, 0)


def plain_backward(model, reference, ro, advantages, beta, temperature, collect=lambda: None):
    "Gradient of the loss by padded chunks of `CHUNK` rows; returns the loss."
    weights, total = loss_weights(ro.mask, 'grpo'), 0.
    for rows in torch.arange(len(ro), device=ro.mask.device).split(CHUNK):
        with torch.no_grad(): ref = plain_logps(reference, ro, rows, temperature) if beta else None
        logps = plain_logps(model, ro, rows, temperature)
        loss, _ = grpo_loss(logps, logps.detach(), ref, advantages[rows], ro.mask[rows], weights[rows], beta=beta)
        loss.backward()
        collect()
        total += float(loss.detach())
    return total


def plain_update(cfg, model, reference, optimizer, batch, step):
    "`grpo_nb.step.update` as it is usually written."
    optimizer.learning_rate = cfg.learning_rate
    with train_mode(model, True):
        plain_backward(model, reference, batch.rollout, batch.advantages, cfg.beta, cfg.temperature, optimizer.collect)
        optimizer.clip_grad_norm(cfg.clip_grad_norm)
        optimizer.step()
        optimizer.zero_grad()


# One piece of work for all contenders

class Work:
    "Model, reference, prompts, lengths and settings of a benchmark."
    def __init__(self, a, hazard=HAZARD):
        self.args, self.device, self.dtype, self.hazard = a, a.device, getattr(torch, a.dtype), hazard
        self.model, self.tok = build(a.model, a.device, a.dtype, a.seed)
        self.prompts, self.problems = prompts(a.model, self.tok, a.prompts), [p for p in problems(a.prompts) for _ in range(a.group)]
        self.reference = load_reference(self.model) if a.beta else None
        self.cfg = GRPOConfig(run_name='benchmark', model_name='small', batch_size=a.prompts, num_generations=a.group, max_new_tokens=a.new,
            temperature=a.temperature, beta=a.beta, learning_rate=LEARNING_RATE, clip_grad_norm=CLIP, optimizer='adamw', device=a.device,
            dtype=a.dtype, num_threads=a.threads)

    def lengths(self, k): return lengths(self.args, k, self.hazard) # Of repeat `k`

    def ending(self, k):
        "Within, every program's completions have the lengths of repeat `k`."
        stops = sorted(_stop_ids(self.model, self.tok), key=lambda t: t != self.tok.eos_token_id) # What ends a completion here first
        return ending(self.lengths(k), stops, self.device)

    def sample(self, model, k, engine='auto', passed=None):
        "Our rollout of repeat `k`."
        a = self.args
        with self.ending(k): return generate(model, self.tok, self.prompts, n=a.group, temperature=a.temperature, max_new_tokens=a.new, seed=1000*a.seed + k, engine=engine, passed=passed)

    def hf_sample(self, model, k, **kwargs):
        "The plain loop's rollout; `k` seeds it."
        a = self.args
        torch.manual_seed(1000*a.seed + k)
        with self.ending(k): return hf_generate(model, self.tok, self.prompts, a.group, a.new, a.temperature, **kwargs)

    def kept(self, model):
        "As in training: a list for what sampling leaves to the update, or None."
        return [] if worth_keeping(self.cfg, model, self.args.prompts) else None

    def batch(self, ro, k, passed=None):
        "A rollout with its rewards, as `sample_batch` would return it."
        grades = [grade(t, p, 'zero-shot', truncated=bool(c)) for t, p, c in zip(ro.texts, self.problems, ro.truncated)]
        formed = [format_ok(t, 'zero-shot') for t in ro.texts]
        rewards = torch.tensor(graded(ro.texts, self.problems, self.args.group, k))
        return Batch(ro, self.problems, grades, formed, group_advantages(rewards, self.args.group).to(ro.mask.device), 'zero-shot', passed[0] if passed else None)


class Loop:
    "A contender with a model of its own: `step(k)` samples, grades and updates once."
    def __init__(self, work, sample, update, keep=False):
        self.work, self.sample, self.update, self.keep = work, sample, update, keep
        self.model = copy.deepcopy(work.model)
        self.optimizer = make_optimizer(self.model, LEARNING_RATE, 'adamw')

    def step(self, k):
        clock = Clock(self.work.device)
        passed = self.work.kept(self.model) if self.keep else None
        ro = self.sample(self.model, k, **dict(passed=passed) if self.keep else {})
        rollout = clock.lap()
        self.update(self.work.cfg, self.model, self.work.reference, self.optimizer, self.work.batch(ro, k, passed), k + 1)
        learn = clock.lap()
        return dict(s=rollout['s'] + learn['s'], wall_s=rollout['wall_s'] + learn['wall_s'], tokens=int(ro.mask.sum()),
                    rollout_s=rollout['s'], update_s=learn['s'], lengths=ro.mask.sum(1).int().tolist())

def ours(work): return Loop(work, work.sample, update, keep=True)
def plain(work): return Loop(work, work.hf_sample, plain_update)


# Clocks, memory, floors

class Clock:
    "Laps in seconds: `s` is processor time on a CPU, time with the device idle again on a GPU; `wall_s` is by the wall."
    def __init__(self, device):
        self.cuda = torch.device(device).type == 'cuda'
        self.lap()

    def lap(self):
        if self.cuda: torch.cuda.synchronize()
        now = time.perf_counter(), time.perf_counter() if self.cuda else time.process_time()
        last, self.last = getattr(self, 'last', now), now
        return dict(s=now[1] - last[1], wall_s=now[0] - last[0])


def _status(key): # Bytes, from Linux's own account of this process
    line = next(o for o in open('/proc/self/status') if o.startswith(key))
    return int(line.split()[1])*1024

class Peak:
    "Peak memory in MB since it was made: allocated on a GPU, resident on a CPU (ru_maxrss would include the parent's)."
    def __init__(self, device):
        self.cuda = torch.device(device).type == 'cuda'
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.base = torch.cuda.memory_allocated()
        elif sys.platform == 'linux': self.base = _status('VmRSS')

    def mb(self):
        if self.cuda: return (torch.cuda.max_memory_allocated() - self.base)/2**20
        return (_status('VmHWM') - self.base)/2**20 if sys.platform == 'linux' else None


def macs(cfg, prompt, groups, lengths):
    "Multiply-adds of one forward over shared prompts of `prompt` tokens and completions of `lengths`; head on completions only."
    h, d = cfg.hidden_size, getattr(cfg, 'head_dim', None) or cfg.hidden_size//cfg.num_attention_heads
    q, kv = cfg.num_attention_heads*d, cfg.num_key_value_heads*d
    fed = groups*prompt + sum(n - 1 for n in lengths)
    context = groups*prompt*(prompt + 1)/2 + sum((n - 1)*prompt + n*(n - 1)/2 for n in lengths)
    layer = fed*(2*h*q + 2*h*kv + 3*h*cfg.intermediate_size) + 2*context*q
    return cfg.num_hidden_layers*layer + sum(lengths)*h*cfg.vocab_size


def matmul_rate(cfg, device, dtype):
    """Multiply-adds a second of x @ w: a large square on a GPU; on a CPU the model's MLP shape with 800 rows, in `dtype` or in
    float32, whichever is faster (a CPU without bfloat16 instructions is slow at it)."""
    cuda = torch.device(device).type == 'cuda'
    n, k, m = (8192, 8192, 8192) if cuda else (800, cfg.hidden_size, cfg.intermediate_size)
    def rate(dtype, reps):
        x, w = torch.randn(n, k, device=device).to(dtype), torch.randn(k, m, device=device).to(dtype)
        x @ w
        clock = Clock(device)
        for _ in range(reps): x @ w
        return reps*n*k*m/clock.lap()['s']
    if cuda: return rate(dtype, 20)
    fp32 = rate(torch.float32, max(3, int(2e9/(n*k*m))))
    return fp32 if dtype == torch.float32 else max(fp32, rate(dtype, 1))


def copy_rate(device):
    "Bytes a second that a large copy reads and writes."
    a = torch.empty(2**30, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    b.copy_(a)
    clock = Clock(device)
    for _ in range(20): b.copy_(a)
    return 20*2*a.numel()/clock.lap()['s']


def floor(work, lengths, rate, bandwidth=None):
    """Seconds of a step that does nothing but the arithmetic, by part: forward once in the rollout and once in the reference,
    three times in the policy. With `bandwidth` (a GPU) decoding instead reads all weights and the KV cache at every token,
    each prompt's cache once a group. The optimizer is not counted."""
    cfg, a = work.model.config, work.args
    prompt = len(work.tok(work.prompts[0], add_special_tokens=False).input_ids)
    once = macs(cfg, prompt, a.prompts, lengths)/rate
    if not bandwidth: return dict(rollout=once, update=(1 if a.beta else 0)*once + 3*once)
    size, d = work.dtype.itemsize, cfg.hidden_size//cfg.num_attention_heads
    kv = 2*cfg.num_hidden_layers*cfg.num_key_value_heads*d*size
    weights = size*sum(p.numel() for p in work.model.parameters())
    read = max(lengths)*(weights + a.prompts*prompt*kv) + kv*sum(n*(n - 1)/2 for n in lengths)
    return dict(rollout=read/bandwidth + macs(cfg, prompt, a.prompts, [1]*len(lengths))/rate, update=((1 if a.beta else 0) + 3)*once)


# Numbers in and out

def summary(rows, base='ours'):
    "Medians of each contender's rows, and how many times the seconds of `base` they are."
    out = {}
    for name, rs in rows.items():
        m = {k: median(r[k] for r in rs) for k in rs[0] if isinstance(rs[0][k], (int, float))}
        m['s_per_1000'] = median(1000*r['s']/r['tokens'] for r in rs)
        m['tokens_per_s'] = median(r['tokens']/r['s'] for r in rs)
        out[name] = m
    if base in out:
        for m in out.values(): m['ratio'], m['ratio_per_token'] = m['s']/out[base]['s'], m['s_per_1000']/out[base]['s_per_1000']
    return out


def table(header, rows):
    "Print columns, numbers in three figures."
    show = lambda v: '-' if v is None else v if isinstance(v, str) else f'{v:,.0f}' if abs(v) >= 1000 else f'{v:.3g}'
    cells = [header, *[[show(v) for v in r] for r in rows]]
    wide = [max(len(r[i]) for r in cells) for i in range(len(header))]
    for r in cells: print('  '.join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, wide))))


def show(rows):
    "Print the summary of `rows` and return it."
    s = summary(rows)
    table(['', 'seconds', 'rollout', 'update', 'per 1000 tokens', 'tokens/s', 'times ours', 'per token'],
          [[n, m['s'], m.get('rollout_s'), m.get('update_s'), m['s_per_1000'], m['tokens_per_s'], m.get('ratio'), m.get('ratio_per_token')] for n, m in s.items()])
    return s


def installed(name):
    "A package's version, or None."
    try: return version(name)
    except PackageNotFoundError: return None


def hardware(device):
    "What a reader needs to know about the machine."
    info = Path('/proc/cpuinfo').read_text() if Path('/proc/cpuinfo').exists() else ''
    find = lambda key: next((l.split(':', 1)[1].strip() for l in info.splitlines() if l.startswith(key)), '')
    out = dict(cpu=find('model name') or platform.processor() or platform.machine(), cores=os.cpu_count(), threads=torch.get_num_threads(),
               bf16_instructions=any(f in find('flags').split() for f in ('avx512_bf16', 'amx_bf16')))
    if torch.device(device).type == 'cuda':
        p = torch.cuda.get_device_properties(device)
        out |= dict(gpu=p.name, gpu_memory_gb=round(p.total_memory/2**30))
    return out


def parser(doc, repeats=5, models=True):
    "Options that all benchmarks have."
    def count(text):
        if not text.isdigit() or not int(text): raise argparse.ArgumentTypeError(f'{text!r} should be a whole number of at least 1')
        return int(text)
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.count = count
    if models: p.add_argument('--model', choices=MODELS, default='tiny', help='shape; all but small have random weights')
    p.add_argument('--new', type=count, default=64, help='longest completion, in tokens')
    p.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32', help='weights and arithmetic')
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu or cuda')
    p.add_argument('--repeats', type=count, default=repeats, help='measured repeats, after one warm-up')
    p.add_argument('--prompts', type=count, default=4, help='prompts a step')
    p.add_argument('--group', type=count, default=16, help='completions a prompt')
    p.add_argument('--temperature', type=float, default=1.2, help='of sampling')
    p.add_argument('--beta', type=float, default=.01, help='price of KL; 0: no reference')
    p.add_argument('--threads', type=count, default=1, help="torch's CPU threads")
    p.add_argument('--seed', type=int, default=0, help='of weights and samples')
    p.add_argument('--out', type=Path, default=ROOT/'benchmarks'/'results', help='folder of the JSON files')
    return p


def parse(p, argv=None):
    "Arguments, checked; sets torch's threads."
    a = p.parse_args(argv)
    if a.device not in ('cpu', 'cuda'): p.error(f"--device should be cpu or cuda, got '{a.device}'")
    if a.device == 'cuda' and not torch.cuda.is_available(): p.error('--device cuda: torch sees no GPU here')
    if a.group < 2: p.error(f'--group should be at least 2, got {a.group}')
    if not a.temperature > 0: p.error(f'--temperature should be above 0, got {a.temperature}')
    if not a.beta >= 0: p.error(f'--beta should be at least 0, got {a.beta}')
    if not 0 <= a.seed < 2**20: p.error(f'--seed should be from 0 to {2**20 - 1}, got {a.seed}')
    torch.set_num_threads(a.threads)
    if a.device == 'cpu' and hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-a.threads:]) # one core a thread, for all contenders
    a.defaults = {k: p.get_default(k) for k in vars(a) if k != 'defaults'}
    return a


NAMED = ('prompts', 'group', 'temperature', 'beta', 'threads', 'seed', 'repeats', 'contenders', 'static', 'completions', 'lengths', 'at')

def save(script, a, model=None, **results):
    "Write a result under a name that holds its settings, the odd ones last; returns the path to print."
    text = lambda v: '_'.join(map(str, v)) if isinstance(v, list) else '' if v is True else str(v)
    odd = [f'{k}{text(getattr(a, k))}' for k in NAMED if getattr(a, k, None) != a.defaults.get(k)]
    path = a.out/f"{'-'.join([script, model or a.model, str(a.new), a.dtype, a.device, *odd])}.json"
    settings = {k: v for k, v in vars(a).items() if isinstance(v, (int, float, str, list, type(None))) and k not in ('peak', 'point')}
    return write(path, script, settings, a.device, **results)


def write(path, script, settings, device='cpu', **results):
    "Write a result with what a reader needs to judge it; returns the path to print."
    made = dict(script=script, date=str(date.today()), **code_state(ROOT, 'grpo_nb', 'benchmarks/*.py'), settings=settings, hardware=hardware(device),
                versions={k: installed(k) or installed(f'{k}-cpu') for k in ('torch', 'transformers', 'trl', 'vllm')} | dict(python=platform.python_version()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made | results, indent=1) + '\n')
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
