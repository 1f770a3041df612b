"The study as a user starts it: from nothing, again when it is done, and after everything was killed; and the write-up without a record."
import json, os, shutil, signal, subprocess, sys, time
import pytest
from common import ROOT, sh
from test_experiments import contents, papermill

TINY = dict(seeds=0, steps=.005, jobs=2, show_every=1, model_name='small', also='val_batch_size=4 batch_size=2 num_generations=4 max_new_tokens=16')

def told(record): # Its sentences and tables
    outs = [o.get('data', {}) for c in json.loads(record.read_text())['cells'] for o in c.get('outputs', [])]
    return [''.join(d[k]) for d in outs for k in ('text/markdown', 'text/html') if k in d]

def said(record): return ''.join(str(o) for c in json.loads(record.read_text())['cells'] for o in c.get('outputs', []))

def test_a_study_runs_its_rows_and_repeats_nothing(tmp_path):
    asked = dict(run_name='grid', rows='one-shot-then-zero-shot-200', **TINY)  # which brings the run that it begins with
    done = papermill('30_study', tmp_path/'study.ipynb', tmp_path, **asked)
    assert done.returncode == 0, done.stdout[-4000:]
    assert '2 of 2 jobs done' in said(tmp_path/'study.ipynb')
    manifest = lambda run: json.loads((tmp_path/'grid'/run/'manifest.json').read_text())
    warm = manifest('one-shot-then-zero-shot-200-s0')
    assert warm['state'] == 'done' and warm['settings']['model_name'] == 'one-shot-1200-s0' and warm['settings']['iterations'] == 1
    assert manifest('one-shot-1200-s0')['settings']['prompt_format'] == 'one-shot'
    assert (tmp_path/'grid/records/one-shot-1200-s0.ipynb').exists()
    before = contents(tmp_path/'grid')
    again = papermill('30_study', tmp_path/'again.ipynb', tmp_path, **asked)
    assert again.returncode == 0 and contents(tmp_path/'grid') == before, again.stdout[-4000:]
    other = papermill('30_study', tmp_path/'other.ipynb', tmp_path, **{**asked, 'steps':.01})
    assert other.returncode and 'one-shot-1200-s0' in other.stdout and 'iterations was 6, now 12' in other.stdout.strip().splitlines()[-1], other.stdout[-2000:]
    assert contents(tmp_path/'grid') == before

def test_a_study_goes_on_after_everything_was_killed(tmp_path):
    asked = dict(run_name='grid', rows='zero-shot-200', **{**TINY, 'steps':.2, 'also':f"{TINY['also']} save_every=5"})
    args = [a for k,v in asked.items() for a in ('-p', k, str(v))]
    study = subprocess.Popen([sys.executable, '-m', 'papermill', ROOT/'nbs/30_study.ipynb', tmp_path/'study.ipynb', '--no-progress-bar', *args], cwd=ROOT,
                             env={**os.environ, 'GRPO_OUTPUTS':str(tmp_path)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    log = tmp_path/'grid/zero-shot-200-s0/metrics.jsonl'
    rows = lambda: len(log.read_text().splitlines()) if log.exists() else 0
    end = time.time() + 300
    while rows() < 12 and time.time() < end: time.sleep(.2)
    import psutil
    mine = [p for p in psutil.process_iter() if str(tmp_path) in ' '.join(_environment(p))]
    for p in mine: p.kill()
    study.wait()
    assert 12 <= rows() < 40
    done = papermill('30_study', tmp_path/'again.ipynb', tmp_path, **asked)
    assert done.returncode == 0 and '1 of 1 jobs done' in said(tmp_path/'again.ipynb'), done.stdout[-4000:]
    manifest = json.loads((tmp_path/'grid/zero-shot-200-s0/manifest.json').read_text())
    assert rows() == 40 and manifest['state'] == 'done' and len(manifest['starts']) == 2

def _environment(p): # Of a process, as far as it may be read
    import psutil
    try: return p.environ().values()
    except (psutil.Error, OSError): return []

@pytest.mark.parametrize('lost', [None, 'natural-1200-s3'])
def test_the_write_up_names_the_claim_that_lost_its_evidence(lost, tmp_path):
    study = tmp_path/'study'
    shutil.copytree(ROOT/'outputs/records/study', study, ignore=shutil.ignore_patterns('*.ipynb', 'completions.jsonl', 'checkpoints'))
    if lost: (study/lost/'eval.jsonl.gz').unlink()
    done = papermill('31_writeup', tmp_path/'writeup.ipynb', tmp_path, study=study)
    assert done.returncode == 0, done.stdout[-4000:]
    text = told(tmp_path/'writeup.ipynb')
    assert any(f'evidence lost: no record of {lost}' in t for t in text) == bool(lost)
    if not lost: assert not any('lost its evidence' in t for t in text) and text == told(ROOT/'nbs/31_writeup.ipynb'), 'run nbs/31_writeup.ipynb again: it shows other figures than its records'
