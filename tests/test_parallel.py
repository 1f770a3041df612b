"Several processes, one run: what comes out, and what happens when one of them fails."
import json, sys
from dataclasses import replace
import pytest
from common import ROOT, sh
from safetensors.torch import load_file
from grpo_nb.runs import TIMED, Run
from grpo_nb.training import GRPOConfig, begin, train
from test_experiments import papermill

WORK = dict(model_name='small', device='cpu', num_threads=1, batch_size=4, num_generations=4, max_new_tokens=24, iterations=20, val_batch_size=4, report_problems=4, log_every=10, save_every=10)

def config(name, **settings): return GRPOConfig.for_model(**{**WORK, 'run_name':name, **settings})

def far(a, b):
    "Largest difference of metrics and weights."
    x,y = (r.metrics.drop(columns=['step', 'prompt_format', *TIMED]) for r in (a, b))
    p,q = (load_file(r.policy_dir/'model.safetensors') for r in (a, b))
    return max(float((x - y).abs().max().max()), *(float((p[k] - q[k]).abs().max()) for k in p))

@pytest.mark.xdist_group('parallel')
def test_two_processes_come_to_what_one_does(tmp_path):
    "20 steps; then two more by one process, where two had begun."
    alone,two = (train(config(f'by{n}', num_processes=n), outputs=tmp_path) for n in (1, 2))
    same = ['nums', 'target', 'completion', 'reward', 'advantage']
    assert alone.completions()[same].equals(two.completions()[same]) and alone.eval_rows.equals(two.eval_rows)
    assert len(two.metrics) == 20 and far(alone, two) < 1e-5
    assert sorted(p.name for p in (tmp_path/'checkpoints/by2').iterdir()) == sorted(p.name for p in (tmp_path/'checkpoints/by1').iterdir())
    for run in (alone, two): train(config(run.run_name, iterations=22, resume=True), outputs=tmp_path)
    assert len(two.metrics) == len(alone.metrics) == 22 and far(alone, two) < 1e-5
    assert [s['changed'].get('num_processes') for s in two.manifest['starts']] == [None, [2, 1]] and two.state == 'done'

@pytest.mark.xdist_group('parallel')
def test_a_lost_process_is_named_and_the_run_goes_on(tmp_path):
    "The benchmark, one kill."
    done = sh(sys.executable, 'benchmarks/ranks.py', '--kills', 1, '--only', 'none', '--out', tmp_path, timeout=900, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout[-3000:]
    record = json.loads((tmp_path/'ranks.json').read_text())
    assert (record['total']['kills'], record['total']['clear_end'], record['total']['different']) == (1, 1, 0)

def test_what_cannot_be_is_refused_before_a_model_is_loaded(tmp_path):
    with pytest.raises(ValueError, match='num_processes should be at most 4, one for each of the 4 prompts'): begin(config('many', num_processes=5), tmp_path)
    with pytest.raises((ImportError, ValueError), match="rollout should be 'own'"): begin(config('vllm', rollout='vllm'), tmp_path)
    done = sh(sys.executable, '-m', 'grpo_nb.training', timeout=120)
    assert done.returncode == 1 and 'is started by torchrun for a run that has begun' in done.stdout.splitlines()[-1]
    assert not (tmp_path/'many').exists()

def test_metrics_go_to_tensorboard(tmp_path):
    "Each step once, also where a run goes on."
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    settings = dict(report_to='tensorboard', iterations=2, report_problems=0, log_every=2)
    run = train(config('told', **settings), outputs=tmp_path)
    train(config('told', **settings | dict(iterations=4, resume=True)), outputs=tmp_path)
    seen = accumulator.EventAccumulator(str(run.dir/'tensorboard'))
    seen.Reload()
    scalars = next(seen.Scalars(t) for t in seen.Tags()['scalars'] if t.endswith('reward'))
    assert [s.step for s in scalars] == [1, 2, 3, 4]
    assert [s.value for s in scalars] == pytest.approx(run.metrics.reward.tolist())

def test_another_engine_samples(tmp_path, monkeypatch):
    "The path that vLLM takes, with a copy of the policy in its place: proof of parity, weights handed over at each step, gap logged."
    import grpo_nb.training as T
    from grpo_nb.served import CopyEngine
    made = []
    def engine(model, **kwargs): made.append((CopyEngine(model), kwargs)); return made[0][0]
    monkeypatch.setattr(T, 'check_rollout', lambda *a: None)
    monkeypatch.setattr(T.sampler.__wrapped__, '__defaults__', (engine,))
    cfg = config('served', rollout='vllm', iterations=3, batch_size=2, report_problems=0)
    run,own = train(cfg, outputs=tmp_path),train(replace(cfg, run_name='own', rollout='own'), outputs=tmp_path)
    assert made[0][1]['length'] > cfg.max_new_tokens and run.manifest['parity']['tokens'] == 1
    assert (run.metrics.logp_gap < 1e-4).all() and (run.metrics.capped_share == 0).all() and 'logp_gap' not in own.metrics
    assert run.completions().completion.tolist() == own.completions().completion.tolist()

@pytest.mark.xdist_group('parallel')
def test_four_processes_from_a_notebook(tmp_path):
    "An adapter, and a loss whose weights count tokens of the whole batch: what papermill runs on four processes is what one does."
    settings = dict(WORK, loss='dapo', lora_rank=4, learning_rate=1e-3, iterations=3, log_every=1)
    alone = train(config('alone', **settings), outputs=tmp_path)
    done = papermill('10_training', tmp_path/'four.ipynb', tmp_path, run_name='four', num_processes=4, **settings)
    assert done.returncode == 0, done.stdout[-3000:]
    four = Run('four', tmp_path)
    same = ['nums', 'target', 'completion', 'reward', 'advantage']
    assert four.manifest['settings']['num_processes'] == 4 and alone.completions()[same].equals(four.completions()[same])
    assert far(alone, four) < 1e-5
