"The measurements run here too, small, and write what the page about speed reads."
import json, sys
import pytest
from common import ROOT, sh

SIZE = '--new 12 --prompts 2 --group 4 --repeats 1'.split()

def run(script, *args, out):
    done = sh(sys.executable, f'benchmarks/{script}.py', *args, '--out', out, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout
    return done.stdout, [json.loads(p.read_text()) for p in out.glob(f'{script}-*.json')]

def test_step_beside_the_others(tmp_path):
    printed, (result,) = run('step', '--model', 'tiny', *SIZE, '--no-peak', out=tmp_path)
    assert 'times ours' in printed and {'ours', 'plain'} <= set(result['medians'])
    assert result['versions']['trl'] or 'TRL is not installed' in printed
    assert all(len(row['lengths']) == 8 for rows in result['repeats'].values() for row in rows)
    from grpo_nb.records import load_results
    from grpo_nb.speed import step_table
    table = step_table(load_results('step', tmp_path))
    assert len(table) == 1 and (table['ours / floor'] > 0).all()

@pytest.mark.parametrize('script', ['decode', 'update'])
def test_halves_are_exact(script, tmp_path): # They compare tokens and gradients themselves, and end with an error if these differ
    _, (result,) = run(script, '--model', 'tiny', *SIZE, out=tmp_path)
    assert result['greedy']['distinct'] > 1 if script == 'decode' else result['gradient']['error'] <= 1e-5

def test_parts_of_a_step(tmp_path):
    _, (result,) = run('parts', '--model', 'tiny', *SIZE, out=tmp_path)
    loops = result['parts']['rollout']['norms and gates in C'] > 0 # Else there is no compiler
    for half in result['parts'].values(): assert all(s > 0 or k == 'norms and gates in C' and not loops for k, s in half.items()), half # The last is what is left of the time: below 0 if something were counted twice

def test_growth_has_laws(tmp_path):
    sizes = '--models tiny --completions 8 16 --lengths 8 12 --new 8 --group 4 --prompts 2 --repeats 1'.split()
    _, (result,) = run('growth', *sizes, out=tmp_path)
    assert len(result['points']) == 3 and 'tiny' in result['laws'] and not result['failed']

def test_gpu_checks_run_without_a_gpu(tmp_path):
    done = sh(sys.executable, 'benchmarks/cuda_check.py', '--device', 'cpu', *SIZE, '--out', tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0 and done.stdout.count('ok ') >= 7 and all(c['ok'] for c in json.loads((tmp_path/'cuda_check-cpu.json').read_text())['checks']), done.stdout

def test_bad_options_are_named():
    done = sh(sys.executable, 'benchmarks/step.py', '--group', '1')
    assert done.returncode == 2 and '--group should be at least 2, got 1' in done.stdout
