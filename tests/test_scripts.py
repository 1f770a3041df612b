"The shell around papermill, with a stand-in for papermill itself."
import shutil
import pytest
from common import ROOT, sh

@pytest.fixture
def clone(tmp_path):
    "The scripts in a folder of their own, and a papermill that writes its arguments into the record, or fails on request."
    for d in ('tools', 'slurm'): shutil.copytree(ROOT/d, tmp_path/d, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(ROOT/'constraints.txt', tmp_path)
    fake = tmp_path/'papermill'
    fake.write_text('#!/bin/sh\necho "$@" > "$2"\nexit "${FAIL:-0}"\n')
    fake.chmod(0o755)
    return tmp_path

def run(clone, *args, **env): return sh('bash', *args, cwd=clone, PAPERMILL=str(clone/'papermill'), **env)

def record(clone, name): return (clone/'outputs/records'/f'{name}.ipynb').read_text().strip()

@pytest.mark.parametrize('script', ['tools/install.sh', 'tools/record.sh', 'slurm/train.sh', 'slurm/eval.sh', '.ci/run'])
def test_syntax(script): assert sh('bash', '-n', script).returncode == 0

def test_train_job_passes_settings_on(clone):
    done = run(clone, 'slurm/train.sh', 'run_name', 'r1', 'iterations', 1200, SLURM_SUBMIT_DIR=str(clone), SLURM_JOB_ID='7')
    assert done.returncode == 0 and 'Job 7' in done.stdout
    assert record(clone, 'r1').startswith('nbs/10_training.ipynb outputs/records/r1.ipynb') and record(clone, 'r1').endswith('-p run_name r1 -p iterations 1200')

def test_jobs_without_a_name_are_named_after_the_job(clone):
    for kind,page in (('train', '10_training'), ('eval', '20_eval')):
        assert run(clone, f'slurm/{kind}.sh', 'seed', 3, SLURM_SUBMIT_DIR=str(clone), SLURM_JOB_ID='8').returncode == 0
        assert record(clone, f'{kind}-8').startswith(f'nbs/{page}.ipynb') and record(clone, f'{kind}-8').endswith(f'-p run_name {kind}-8 -p seed 3')

def test_job_logs_carry_the_job_id():
    for script in ('train', 'eval'): assert '%j' in next(l for l in (ROOT/f'slurm/{script}.sh').read_text().splitlines() if l.startswith('#SBATCH --output'))

@pytest.mark.parametrize('given', ['run_name', 'seed 3 run_name', 'run_name r1 iterations'])
def test_setting_without_a_value_is_refused(clone, given):
    done = run(clone, 'slurm/train.sh', *given.split(), SLURM_SUBMIT_DIR=str(clone))
    assert done.returncode == 2 and not (clone/'outputs').exists()
    assert done.stdout == f'Settings come as NAME VALUE pairs, and the last of these has no value: {given}\n'

def test_a_failing_run_leaves_the_record(clone):
    one = ('tools/record.sh', 'nbs/10_training.ipynb', 'r1')
    assert run(clone, *one, '-p', 'seed', 1).returncode == 0
    before = record(clone, 'r1')
    assert run(clone, *one, '-p', 'seed', 2, FAIL='1').returncode == 1 and record(clone, 'r1') == before
    assert run(clone, *one, '-p', 'seed', 3).returncode == 0 and record(clone, 'r1').endswith('-p seed 3')

def test_without_papermill_one_sentence(clone):
    done = sh('/bin/bash', 'tools/record.sh', 'nbs/10_training.ipynb', 'r1', cwd=clone, PAPERMILL='no-such-papermill', PATH='/usr/bin:/bin')
    assert done.returncode == 1 and 'make env' in done.stdout

def test_without_python_one_sentence(clone):
    done = run(clone, 'tools/install.sh', 'cpu', PYTHON='/bin/false')
    assert done.returncode == 1 and 'Python 3.10 or newer' in done.stdout and '/bin/false' in done.stdout and len(done.stdout.splitlines()) == 1
    assert not (clone/'.venv').exists()
