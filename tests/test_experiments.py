"The notebooks that papermill runs: what was asked for is what happens, and what cannot be is refused in one sentence."
import importlib, json, re, shutil, sys
import pytest
from click.testing import CliRunner
from papermill.cli import papermill as cli
from common import EXPERIMENTS, PAGES, ROOT, sh, warm_kernels
from grpo_nb.settings import parameters_cell

TINY = dict(model_name='small', iterations=2, batch_size=2, num_generations=4, max_new_tokens=16, val_batch_size=4, report_problems=4)
EVALUATION = dict(run_name='smoke-eval', models='Base:small Smoke:smoke', num_problems=3, max_new_tokens=16)
QUESTION = 'Using the numbers [4, 7, 3], create an expression that equals 25.'

def papermill(page, record, outputs, timeout=600, cold=False, **parameters):
    "Run a page as a user does, `-p NAME VALUE` for each setting; only that the kernel, unless `cold`, has its imports behind it."
    asked = [a for k,v in parameters.items() for a in ('-p', k, v)]
    return sh(sys.executable, '-m', 'papermill', ROOT/'nbs'/f'{page}.ipynb', record, '--no-progress-bar', *asked, timeout=timeout, GRPO_OUTPUTS=str(outputs), **({} if cold else warm_kernels()))

def contents(folder): return {p.relative_to(folder):p.read_bytes() for p in folder.rglob('*') if p.is_file()}
def last_line(done): return done.stdout.strip().splitlines()[-1]

def test_experiments_have_one_parameters_cell():
    tagged = {p.stem:sum('parameters' in c['metadata'].get('tags', []) for c in json.loads(p.read_text(encoding='utf-8'))['cells']) for p in PAGES}
    assert set(EXPERIMENTS) == {'10_training', '11_memory', '12_small_model', '13_planning', '20_eval', '21_inference', '22_report', '23_sharing', '29_corrections', '30_study', '31_writeup'}
    assert all(tagged[n] == 1 for n in EXPERIMENTS) and max(tagged.values()) == 1, tagged

def parameters(page): return next(''.join(c['source']) for c in json.loads(EXPERIMENTS[page].read_text(encoding='utf-8'))['cells'] if 'parameters' in c['metadata'].get('tags', []))

@pytest.mark.parametrize('page', EXPERIMENTS)
def test_help_lists_every_setting(page):
    said = CliRunner().invoke(cli, ['--help-notebook', str(EXPERIMENTS[page])]).output
    settings = re.findall(r"^(\w+)\s*:.*?=\s*(?!'')\S", parameters(page), re.M)
    assert settings and not [s for s in settings if not re.search(rf'^\s*{s}:', said, re.M)], said

@pytest.mark.parametrize('page, module, config', [('10_training', 'settings', 'GRPOConfig'), ('13_planning', 'planning', 'PlanConfig'), ('20_eval', 'exam', 'EvalConfig'), ('21_inference', 'inference', 'AskConfig'),
    ('22_report', 'report', 'ReportConfig'), ('23_sharing', 'sharing', 'SharingConfig'), ('29_corrections', 'corrections', 'CorrectionsConfig'), ('30_study', 'grid', 'StudyConfig')])
def test_parameters_cell_is_what_the_class_says(page, module, config):
    said = parameters_cell(getattr(importlib.import_module(f'grpo_nb.{module}'), config))
    assert parameters(page).split() == said.split()

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "Folder of outputs that holds the tiny run `smoke`."
    outputs = tmp_path_factory.mktemp('outputs')
    done = papermill('10_training', outputs/'smoke.ipynb', outputs, cold=True, run_name='smoke', learning_rate=1e-4, **TINY)
    assert done.returncode == 0, done.stdout[-4000:]
    return outputs

@pytest.mark.xdist_group('trained')
def test_training_does_what_was_asked(trained):
    manifest = json.loads((trained/'smoke/manifest.json').read_text())
    asked = dict(run_name='smoke', learning_rate=1e-4, **TINY)
    assert {k:manifest['settings'][k] for k in asked} == asked and manifest['state'] == 'done'
    rows = lambda f: [json.loads(l) for l in (trained/'smoke'/f).read_text().splitlines()]
    assert len(rows('metrics.jsonl')) == 2 and len(rows('completions.jsonl')) == 2*2*4 and rows('eval.jsonl')
    assert (trained/'checkpoints/smoke/policy/config.json').exists()
    assert all((trained/f'smoke_{f}').exists() for f in ('training_curve.png', 'kl_divergence.png', 'metrics.json'))

@pytest.fixture(scope='module')
def evaluated(trained):
    "The same folder, with the evaluation `smoke-eval`."
    done = papermill('20_eval', trained/'smoke-eval.ipynb', trained, **EVALUATION)
    assert done.returncode == 0, done.stdout[-4000:]
    return trained

@pytest.mark.xdist_group('trained')
def test_evaluation_does_what_was_asked(evaluated):
    manifest = json.loads((evaluated/'smoke-eval/manifest.json').read_text())
    assert {k:manifest['settings'][k] for k in EVALUATION} == EVALUATION
    assert len((evaluated/'smoke-eval/eval.jsonl').read_text().splitlines()) == 2*3*3  # models x formats x problems
    report = json.loads((evaluated/'smoke-eval.ipynb').read_text())
    said = ''.join(''.join(o.get('data', {}).get('text/markdown', '')) for c in report['cells'] for o in c.get('outputs', []))
    assert said.count('Smoke against Base') == 3 and 'trained zero-shot, 2 steps' in said, said

@pytest.mark.xdist_group('trained')
def test_report_is_made_again_without_a_model(evaluated, tmp_path):
    for run in ('smoke-eval', 'smoke'): shutil.copytree(evaluated/run, tmp_path/run)  # records, and no policy
    before = contents(tmp_path/'smoke-eval')
    done = papermill('20_eval', tmp_path/'again.ipynb', tmp_path, **EVALUATION)
    assert done.returncode == 0 and contents(tmp_path/'smoke-eval') == before, done.stdout[-4000:]

def test_memory_is_profiled(tmp_path):
    done = papermill('11_memory', tmp_path/'memory.ipynb', tmp_path, num_generations=4, max_new_tokens=16)
    assert done.returncode == 0, done.stdout[-4000:]
    shown = (tmp_path/'memory.ipynb').read_text()
    assert all(part in shown for part in ('activations', 'optimizer', 'reference')) and all(f'{gb} GB' in shown for gb in (16, 24, 40, 80))

def test_a_run_is_planned(tmp_path):
    done = papermill('13_planning', tmp_path/'plan.ipynb', tmp_path, model='Qwen2.5-14B', card='H200', cards=16, iterations=300, beta=0.0)
    assert done.returncode == 0, done.stdout[-4000:]
    shown = (tmp_path/'plan.ipynb').read_text(encoding='utf-8')
    assert '**Qwen2.5-14B on 16 × H200**, 300 steps' in shown and 'fastest within the budget' in shown and 'GFLOP/s' in shown

@pytest.mark.xdist_group('trained')
def test_inference_answers(trained):
    done = papermill('21_inference', trained/'ask.ipynb', trained, question=QUESTION, run_name='smoke', no_oneshot=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert '4, 7, 3 → 25, zero-shot' in (trained/'ask.ipynb').read_text(encoding='utf-8')
    ask = lambda *args: sh('grpo-ask', *args, GRPO_OUTPUTS=str(trained))
    asked = ask(QUESTION, '--run_name', 'smoke', '--no_oneshot')
    assert asked.returncode in (0, 1) and '<think>' in asked.stdout, asked.stdout
    asked = ask('make', 25, 'from', '4,', 7, 'and', 3, '--run_name', 'smoke@2', '--n', 4)  # the run's checkpoint of step 2
    assert asked.returncode in (0, 1) and 'of 4 right' in asked.stdout and '2 solutions: 3 * 7 + 4; 4 * 7 - 3' in asked.stdout, asked.stdout
    asked = ask('What is 2 + 2?', '--run_name', 'smoke')
    assert asked.returncode == 0 and 'cannot be graded' in asked.stdout, asked.stdout
    asked = ask(QUESTION, '--run_name', 'smoke@3')
    assert asked.returncode == 2 and 'checkpoints of steps 2, got 3' in asked.stdout and len(asked.stdout.splitlines()) == 1, asked.stdout

@pytest.mark.xdist_group('trained')
def test_a_report_is_plain_html(trained):
    shutil.copytree(trained/'smoke', trained/'twin', dirs_exist_ok=True)
    done = papermill('22_report', trained/'report.ipynb', trained, run_name='smoke', step=2, beside='twin')
    assert done.returncode == 0, done.stdout[-4000:]
    shutil.rmtree(trained/'twin')
    report = json.loads((trained/'report.ipynb').read_text(encoding='utf-8'))
    pages = [''.join(o['data']['text/html']) for c in report['cells'] for o in c.get('outputs', []) if 'text/html' in o.get('data', {})]
    assert 'widgets' not in report['metadata'] and '"application/vnd.jupyter.widget-view+json"' not in json.dumps(report)
    assert all(any(s in p for p in pages) for s in ('step 2 of 2', '<svg', 'class="grpo-card', 'step 1, ', 'step 2, ', 'no difference shown'))

@pytest.mark.xdist_group('trained')
def test_sharing_is_rehearsed(trained):
    done = papermill('23_sharing', trained/'share.ipynb', trained, run_name='smoke', repo_id='me/smoke')
    assert done.returncode == 0, done.stdout[-4000:]
    card,listed = (trained/'smoke/hub/README.md').read_text(), json.loads((trained/'smoke/hub/files.json').read_text())
    assert card.startswith('---\n') and '| zero-shot | greedy | 4 |' in card and 'would send' in (trained/'share.ipynb').read_text()
    sizes = {p.name:p.stat().st_size for p in (trained/'checkpoints/smoke/policy').iterdir()} | {'README.md':len(card.encode())}
    assert {f['file']:f['bytes'] for f in listed['files']} == sizes

@pytest.mark.xdist_group('trained')
def test_a_run_that_exists_is_left_alone(trained):
    before = contents(trained)
    done = papermill('10_training', trained.parent/'again.ipynb', trained, run_name='smoke', learning_rate=2e-4, **TINY)
    assert done.returncode and 'smoke' in last_line(done) and 'learning_rate' in last_line(done), done.stdout[-2000:]
    assert contents(trained) == before

def test_small_model_can_be_remade(tmp_path):
    done = papermill('12_small_model', tmp_path/'made.ipynb', tmp_path, run_name='made', skill_steps=2, character_steps=2)
    assert done.returncode == 0, done.stdout[-4000:]
    assert (tmp_path/'made/model.safetensors').stat().st_size <= 6e6

def test_corrections_are_measured_once(tmp_path):
    asked = dict(run_name='smoke-corrections', iterations=2, batches=2, steps=2, eight_bit=False, batch_size=1, num_generations=4, exam_steps=24)
    done = papermill('29_corrections', tmp_path/'corrections.ipynb', tmp_path, **asked)
    assert done.returncode == 0, done.stdout[-4000:]
    assert {*json.loads((tmp_path/'smoke-corrections/corrections.json').read_text())} == {'leash', 'temperature', 'rounding', 'contamination'}
    manifest = json.loads((tmp_path/'smoke-corrections/manifest.json').read_text())
    assert {k:manifest['settings'][k] for k in asked} == asked and manifest['state'] == 'done' and manifest['trained'] == 'zero-shot, 2 steps'
    said = (tmp_path/'corrections.ipynb').read_text()
    assert said.count('image/png') == 4 and 'nats a token from the reference' in said
    shutil.copytree(tmp_path/'smoke-corrections', tmp_path/'elsewhere/smoke-corrections')  # the record, and no policy
    before = contents(tmp_path/'elsewhere')
    done = papermill('29_corrections', tmp_path/'again.ipynb', tmp_path/'elsewhere', **asked)
    assert done.returncode == 0 and contents(tmp_path/'elsewhere') == before, done.stdout[-4000:]

@pytest.mark.parametrize('page, wrong, said', [
    ('10_training', dict(learning_rat=1e-4), 'learning_rate'),
    ('10_training', dict(master_weights='no'), "master_weights should be True or False, got 'no'"),
    ('10_training', dict(num_generations=1), 'num_generations should be >= 2, got 1'),
    ('10_training', dict(model_name='no_such_run'), 'no_such_run'),
    ('10_training', dict(model_name='hf://no-such-owner/no-such-model'), 'no-such-owner'),
    ('10_training', dict(device='cuda:99'), 'device should be'),
    ('10_training', dict(report_to='mlflow'), 'report_to should be'),
    ('10_training', dict(num_processes=99), 'num_processes should be at most 4'),
    ('12_small_model', dict(skill_step=3), 'skill_steps'),
    ('13_planning', dict(model='Qwen2.5-8B'), 'model should be one of'),
    ('20_eval', dict(num_problem=3), 'num_problems'),
    ('20_eval', dict(num_problems=9999), 'num_problems should be at most 505'),
    ('30_study', dict(rows='half-shot'), 'rows should be'),
    ('31_writeup', dict(study='no-such-study'), 'no study in'),
    ('21_inference', dict(temperature=9), 'temperature should be >= 0, <= 5, got 9'),
    ('21_inference', dict(run_name='no_such_run'), 'no_such_run'),
    ('22_report', dict(run_name='no_such_run'), 'no_such_run'),
    ('23_sharing', dict(run_name='no_such_run'), 'no_such_run'),
    ('23_sharing', dict(repo_id='no-owner'), "repo_id should be owner/name of letters, digits, '-', '_' and '.', got 'no-owner'"),
    ('29_corrections', dict(policy='no_such_run'), 'no_such_run'),
], ids=lambda v: next(iter(v)) if isinstance(v, dict) else None)
def test_refused_in_one_sentence(page, wrong, said, tmp_path):
    outputs = tmp_path/'outputs'
    done = papermill(page, tmp_path/'record.ipynb', outputs, timeout=120, **wrong)
    assert done.returncode and said in last_line(done) and str(*wrong.values()).removeprefix('hf://') in last_line(done), done.stdout[-3000:]
    assert not outputs.exists()
