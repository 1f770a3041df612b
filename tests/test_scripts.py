"The shell around papermill, with a stand-in for papermill itself. On a real Slurm the same scripts run by `make test-slurm`."
import json, os, re, shutil, signal, subprocess, sys, time
import pytest
from common import ROOT, sh

PAPERMILL = """#!{python}
import json, os, sys, time
from pathlib import Path
page, record, *given = sys.argv[1:]
asked = dict(zip(given[1::3], given[2::3]))  # -p NAME VALUE
Path(record).write_text(' '.join([page, record, *given]))
if os.environ.get('REFUSE'): sys.exit(1)
run = Path(os.environ.get('GRPO_OUTPUTS', 'outputs'))/asked.get('run_name', 'r1')
run.mkdir(parents=True, exist_ok=True)
at = run/'manifest.json'
m = json.loads(at.read_text()) if at.exists() else dict(starts=[])
def write(state):
    m.update(state=state)
    (run/'m').write_text(json.dumps(m))
    (run/'m').rename(at)
m['starts'].append('now')
write('running')
end = time.time() + float(os.environ.get('SECONDS_TO_RUN', 0))
while time.time() < end:
    if (run/'STOP').exists() and not os.environ.get('DEAF'):
        write('preempted')
        sys.exit(0)
    time.sleep(.05)
if os.environ.get('FAIL'): write('failed')
else: write('done')
sys.exit(int(os.environ.get('FAIL', 0)))
"""

SCONTROL = """#!/bin/sh
echo "$@" >> scontrol.log
[ "$1" = show ] && echo "JobId=7 JobState=${JOB_STATE:-RUNNING} PreemptTime=${PREEMPTED:-None}" || exit "${NO_REQUEUE:-0}"
"""

@pytest.fixture
def clone(tmp_path):
    "The scripts in a folder of their own; a papermill that writes its arguments into the record and obeys STOP; an scontrol that takes notes."
    for d in ('tools', 'slurm'): shutil.copytree(ROOT/d, tmp_path/d, ignore=shutil.ignore_patterns('__pycache__'))
    (tmp_path/'nbs').mkdir()
    shutil.copy(ROOT/'nbs/10_training.ipynb', tmp_path/'nbs')
    shutil.copy(ROOT/'constraints.txt', tmp_path)
    for name,text in dict(papermill=PAPERMILL.replace('{python}', sys.executable), scontrol=SCONTROL).items():
        (tmp_path/name).write_text(text)
        (tmp_path/name).chmod(0o755)
    return tmp_path

def run(clone, *args, **env): return sh('bash', *args, cwd=clone, PAPERMILL=str(clone/'papermill'), **env)

def job(clone, script, *args, **env):
    "Run a script as job 7 of a Slurm would."
    return run(clone, f'slurm/{script}.sh', *args, SLURM_SUBMIT_DIR=str(clone), SLURM_JOB_ID='7', **env)

def record(clone, name): return (clone/'outputs/records'/f'{name}.ipynb').read_text().strip()

@pytest.mark.parametrize('script', [*sorted(str(p.relative_to(ROOT)) for d in ('tools', 'slurm') for p in (ROOT/d).glob('*.sh')), '.ci/run'])
def test_syntax(script): assert sh('bash', '-n', script).returncode == 0

def test_train_job_passes_settings_on(clone):
    done = run(clone, 'slurm/train.sh', 'run_name', 'r1', 'iterations', 1200, SLURM_SUBMIT_DIR=str(clone), SLURM_JOB_ID='7')
    assert done.returncode == 0 and 'Job 7' in done.stdout
    assert record(clone, 'r1').startswith('nbs/10_training.ipynb outputs/records/r1.ipynb') and record(clone, 'r1').endswith('-p run_name r1 -p iterations 1200')

def test_jobs_without_a_name_are_named_after_the_job(clone):
    for kind,page in (('train', '10_training'), ('eval', '20_eval')):
        assert run(clone, f'slurm/{kind}.sh', 'seed', 3, SLURM_SUBMIT_DIR=str(clone), SLURM_JOB_ID='8').returncode == 0
        assert record(clone, f'{kind}-8').startswith(f'nbs/{page}.ipynb') and record(clone, f'{kind}-8').endswith(f'-p run_name {kind}-8 -p seed 3')

@pytest.mark.parametrize('script,log', [('train', '%x-%j'), ('eval', '%x-%j'), ('sweep', '%x-%A_%a')])
def test_job_options(script, log):
    options = re.findall(r'^#SBATCH (.*)', (ROOT/f'slurm/{script}.sh').read_text(), re.M)
    assert f'--output=outputs/{log}.log' in options and {'--requeue', '--open-mode=append'} <= {*options}
    assert [o for o in options if o.startswith('--signal=B:USR1@')]

def test_a_run_that_is_there_is_continued(clone):
    assert job(clone, 'train', 'run_name', 'r1').returncode == 0 and 'resume' not in record(clone, 'r1')
    assert job(clone, 'train', 'run_name', 'r1').returncode == 0 and record(clone, 'r1').endswith('-p run_name r1 -p resume True')
    assert job(clone, 'train', 'run_name', 'r1', 'resume', 'False').returncode == 0 and record(clone, 'r1').endswith('-p resume False')
    assert job(clone, 'eval', 'run_name', 'r1').returncode == 0 and 'resume' not in record(clone, 'r1')

def test_jobs_honour_grpo_outputs(clone):
    assert job(clone, 'train', 'run_name', 'r1', GRPO_OUTPUTS=str(clone/'scratch')).returncode == 0
    assert (clone/'scratch/records/r1.ipynb').exists() and not (clone/'outputs').exists()

def test_jobs_and_prefetch_agree_where_models_are(clone):
    home, = {l.split('export HF_HOME=')[1].split(' HF_HUB')[0] for f in ('job', 'prefetch') for l in (ROOT/f'tools/{f}.sh').read_text().splitlines() if 'export HF_HOME=' in l}
    assert home.startswith('${HF_HOME:-')
    done = sh('tools/prefetch.sh', cwd=clone)
    assert done.returncode == 2 and 'Which model?' in done.stdout

@pytest.mark.parametrize('env,code,said', [
    (dict(REFUSE='1'), 2, 'Run r1 was refused before it began'), (dict(FAIL='1'), 3, 'Run r1 failed (failed'), (dict(PAPERMILL='no-such', PATH='/usr/bin:/bin'), 127, 'make env')])
def test_exit_codes(clone, env, code, said):
    done = sh('/bin/bash', 'slurm/train.sh', 'run_name', 'r1', cwd=clone, **(dict(PAPERMILL=str(clone/'papermill')) | env))
    assert done.returncode == code and said in done.stdout
    assert f'{code}  ' in (ROOT/'slurm/train.sh').read_text()

def test_nodes_and_gpus(clone):
    "What a job is to have comes before the settings: the script submits itself. In the job each GPU gets a process."
    (clone/'sbatch').write_text('#!/bin/sh\necho sbatch "$@"\n')
    (clone/'sbatch').chmod(0o755)
    submit = lambda *args, **env: run(clone, 'slurm/train.sh', *args, **{'PATH':f'{clone}:{os.environ["PATH"]}', **env})
    done = submit('nodes', 2, 'gpus', 4, '--time=01:00:00', 'run_name', 'r1', 'batch_size', 8)
    assert done.stdout.strip() == 'sbatch --nodes=2 --gres=gpu:4 --cpus-per-task=32 --mem=256G --time=01:00:00 slurm/train.sh run_name r1 batch_size 8'
    for args,env,said in ((('nodes', 'two'), {}, "nodes should be a whole number above 0, got 'two'"), (('gpus', 2), dict(SLURM_JOB_ID='7'), 'this is job 7 already'),
                          (('gpus', 2), dict(PATH='/usr/bin:/bin'), 'set num_processes to use several GPUs')):
        done = submit(*args, **env)
        if said.startswith('set') and shutil.which('sbatch', path='/usr/bin:/bin'): continue
        assert done.returncode == 2 and said in done.stdout, done.stdout
    for gpus,given,said in ((4, (), 'num_processes 4'), (4, ('num_processes', 2), 'num_processes 2'), (1, (), ''), (0, (), '')):
        assert job(clone, 'train', 'run_name', f'r{gpus}{len(given)}', *given, SLURM_GPUS_ON_NODE=str(gpus)).returncode == 0
        assert (record(clone, f'r{gpus}{len(given)}').partition('-p num_processes')[2] == said.removeprefix('num_processes')), record(clone, f'r{gpus}{len(given)}')

def signalled(clone, sig, script='train', **env):
    "A job of 20 s that gets a signal when its run is under way; how it ended, what it said, what scontrol was asked."
    env = {**os.environ, 'PATH':f'{clone}:{os.environ["PATH"]}', 'PAPERMILL':str(clone/'papermill'), 'SLURM_SUBMIT_DIR':str(clone), 'SLURM_JOB_ID':'7',
           'SECONDS_TO_RUN':'20', **env}
    manifest = clone/'outputs/r1/manifest.json'
    starts = lambda: len(json.loads(manifest.read_text())['starts']) if manifest.exists() else 0
    before = starts()
    p = subprocess.Popen(['bash', f'slurm/{script}.sh', 'run_name', 'r1'], cwd=clone, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while starts() == before and p.poll() is None: time.sleep(.02)
    if sig is None: (clone/'outputs/r1/STOP').touch()
    else: p.send_signal(sig)
    said = p.communicate(timeout=60)[0]
    log = clone/'scontrol.log'
    return p.returncode, said, log.read_text() if log.exists() else '', json.loads(manifest.read_text())['state']

@pytest.mark.parametrize('sig,env,code,requeued,said', [
    (signal.SIGUSR1, {}, 0, True, 'back to the queue'),                                                       # the time limit is near
    (signal.SIGTERM, dict(JOB_STATE='COMPLETING', PREEMPTED='2026-01-01T00:00:00'), 0, True, 'back to the queue'), # another job takes the place
    (signal.SIGTERM, dict(JOB_STATE='COMPLETING'), 0, False, 'Slurm itself ends this job'),                   # scancel
    (None, {}, 0, False, 'stopped by hand'),                                                                  # touch outputs/r1/STOP
    (signal.SIGUSR1, dict(NO_REQUEUE='1'), 5, True, 'did not requeue')])
def test_a_training_job_stops_politely(clone, sig, env, code, requeued, said):
    returned, out, asked, state = signalled(clone, sig, **env)
    assert (returned, 'requeue 7' in asked, state) == (code, requeued, 'preempted') and said in out
    assert record(clone, 'r1') and (sig is None or not (clone/'outputs/r1/STOP').exists())

def test_a_run_that_does_not_stop_in_time(clone):
    returned, out, asked, state = signalled(clone, signal.SIGUSR1, DEAF='1', GRPO_GRACE='1', SECONDS_TO_RUN='4')
    assert returned == 4 and 'did not stop within 1 s' in out and not asked

@pytest.mark.parametrize('script', ['train', 'eval'])
def test_a_job_that_gets_nowhere_is_requeued_once(clone, script):
    assert signalled(clone, signal.SIGUSR1, script)[::2] == (0, 'show job --oneliner 7\nrequeue 7\n')
    (clone/'scontrol.log').unlink()
    returned, out, asked, _ = signalled(clone, signal.SIGUSR1, script, SLURM_RESTART_COUNT='1')
    assert returned == 4 and 'came no further' in out and not asked

def sweep(clone, text=None, index=None):
    (clone/'s.csv').write_bytes(text if isinstance(text, bytes) else (text or 'run_name,seed\na,1\nb,\n').encode())
    return run(clone, 'slurm/sweep.sh', 's.csv', 'iterations', 3, SLURM_SUBMIT_DIR=str(clone), **({} if index is None else dict(SLURM_ARRAY_TASK_ID=index)))

def test_sweep_trains_its_row(clone):
    for index,settings in (('1', '-p run_name a -p seed 1 -p iterations 3'), ('2', '-p run_name b -p iterations 3')):
        assert sweep(clone, index=index).returncode == 0 and record(clone, 'ab'[int(index) - 1]).endswith(settings)

def test_sweep_without_slurm_says_how_to_submit(clone):
    assert 'sbatch --array=1-2 slurm/sweep.sh s.csv' in sweep(clone).stdout and not (clone/'outputs').exists()
    for f in (ROOT/'slurm/sweeps').glob('*.csv'): assert run(clone, 'slurm/sweep.sh', f).returncode == 0

@pytest.mark.parametrize('text,index,said', [
    (None, '3', 's.csv has rows 1 to 2, got array index 3'), ('run_name,sead\na,1\n', '1', "column 'sead' of s.csv is no setting"), ('seed\n1\n', '1', 'needs a column run_name'),
    ('run_name,seed\n,1\n', '1', 'row 1 of s.csv has no run_name'), ('run_name\na\nb\na\n', '1', "'a' is in rows 1 and 3"), ('run_name,seed\na\n', '1', 'has 1 cells, its header 2'),
    ('\n', None, 'is empty'), ('run_name\n', None, 'has no rows'), ('run_name,seed,seed\na,1,1\n', None, 'a column twice'),
    (b'run_name\nr\xe9\n', None, 'is not CSV in UTF-8'), ('run_name\n"' + 'a'*140000 + '"\n', None, 'is not CSV in UTF-8')])
def test_sweep_refuses_in_one_sentence(clone, text, index, said):
    done = sweep(clone, text, index)
    assert done.returncode == 2 and said in done.stdout and len(done.stdout.splitlines()) == 1 and not (clone/'outputs').exists()

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
    assert done.returncode == 127 and 'make env' in done.stdout

def test_without_python_one_sentence(clone):
    done = run(clone, 'tools/install.sh', 'cpu', PYTHON='/bin/false')
    assert done.returncode == 1 and 'Python 3.10 or newer' in done.stdout and '/bin/false' in done.stdout and len(done.stdout.splitlines()) == 1
    assert not (clone/'.venv').exists()
