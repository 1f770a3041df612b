"""The scripts in slurm/ on a real Slurm of this machine: `make test-slurm`, not part of `make test`.

Installs Debian's Slurm where it is missing, starts it on loopback as root in a temporary folder, submits the scripts with the
small model, takes jobs off the machine in every way that a cluster knows, and stops all that it started.
`make test-slurm RECORD=benchmarks/results/slurm.json` also writes down what happened."""
import json, os, re, shutil, signal, socket, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
import psutil
import pytest

HERE, ROOT = Path(__file__).resolve().parent, Path(__file__).resolve().parents[2]
PACKAGES = ['slurm-wlm', 'slurmd', 'slurmctld', 'munge']
SMALL = dict(model_name='small', device='cpu', num_threads=1, val_batch_size=4, report_problems=4)
# Long enough for Slurm, which looks at time limits every 30 s
LONG = SMALL | dict(iterations=100, batch_size=4, num_generations=8, max_new_tokens=48, save_every=5)
BRIEF = LONG | dict(iterations=30)  # whose steps are the first 30 of those
SHORT = SMALL | dict(iterations=4, batch_size=2, num_generations=4, max_new_tokens=16)
EXAM = dict(run_name='exam', models='Base:small', num_problems=40, max_new_tokens=16, device='cpu')
TIMES = ('rollout_s', 'scoring_s', 'update_s', 'tokens_per_s', 'peak_memory_mb')
ASKED, STOPPED = (re.compile(rf'\[(.+?)\] {said}') for said in ('Slurm asks to stop', r'Run \S+ stopped \('))
TWINS = ('twin1', 'twin2')  # two nodes that are this machine as well
OVER = ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'PREEMPTED', 'NODE_FAIL')
began = time.time()

def say(*what): print(f'{time.time() - began:4.0f} s ', *what, flush=True)

def until(true, what, seconds=300):
    "Wait until `true()` is, and return it."
    end = time.time() + seconds
    while time.time() < end:
        if (got := true()): return got
        time.sleep(.5)  # scontrol is a process each time
    raise TimeoutError(f'{what}: not within {seconds} s')

# A Slurm of our own

def install():
    "Debian's Slurm; a sentence where that cannot be."
    if os.geteuid(): pytest.skip('Slurm can be started by root only: run make test-slurm as root')
    missing = [c for c in ('slurmctld', 'slurmd', 'munged', 'sbatch') if not shutil.which(c)]
    if not missing: return
    if not shutil.which('apt-get'): pytest.skip(f'{", ".join(missing)} not installed, and there is no apt-get to install them')
    say('installing', *PACKAGES)
    get = lambda *a: subprocess.run(['apt-get', '-qq', *a], env={**os.environ, 'DEBIAN_FRONTEND': 'noninteractive'}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    add = lambda: get('install', '-y', '--no-install-recommends', *PACKAGES)
    if add().returncode and (get('update') and (done := add()).returncode):
        pytest.skip(f'apt-get cannot install {" ".join(PACKAGES)}: {done.stdout.strip().splitlines()[-1]}')

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

@pytest.fixture(scope='module', autouse=True)
def slurm():
    "munged, slurmctld and slurmd, stopped again whatever happens."
    install()
    home = Path(tempfile.mkdtemp(prefix='slurm-'))
    home.chmod(0o711)  # munged wants everybody to be able to reach its socket
    host = socket.gethostname().split('.')[0]
    for d in ('state', *(f'spool-{n}' for n in (host, *TWINS))): (home/d).mkdir()
    for f in ('gpu0', 'gpu1'): (home/f).touch()
    filled = dict(HOST=host, DIR=str(home), **{f'PORT{i}':str(free_port()) for i in (1, 2, 3, 4)})
    for f in ('slurm.conf', 'gres.conf'): (home/f).write_text(re.sub('|'.join(filled), lambda m: filled[m[0]], (HERE/f).read_text()))
    (home/'munge.key').write_bytes(os.urandom(128))
    (home/'munge.key').chmod(0o600)
    os.environ['SLURM_CONF'] = str(home/'slurm.conf')
    munge = [f'--{o}-file={home}/munge.{o}' for o in ('key', 'pid', 'log', 'seed')] + [f'--socket={home}/munge.socket']
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit('stopped by SIGTERM'))  # so that what follows `yield` is done even then
    daemons = []
    def start(*command):
        out = open(home/f'{command[0]}-{len(daemons)}.out', 'w')
        daemons.append(subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True))
    try:
        start('munged', '--foreground', *munge)
        until((home/'munge.socket').exists, 'munged', 20)
        start('slurmctld', '-D')
        for n in (host, *TWINS): start('slurmd', '-D', '-N', n)
        until(lambda: set(sh('sinfo', '--noheader', '--Node', '--format=%T').split()) == {'idle'}, 'slurmd', 30)
        say(sh('sinfo', '--version').strip(), 'runs on', host)
        yield home
    except TimeoutError as e:
        logs = ''.join(f'\n{f.name}: {f.read_text()[-1500:]}' for f in sorted(home.glob('*.out')))
        pytest.fail(f'Slurm does not start: {e}{logs}', pytrace=False)
    finally:
        if len(daemons) == 5: stop_jobs()
        for d in reversed(daemons): d.terminate()
        for d in daemons:
            try: d.wait(10)
            except subprocess.TimeoutExpired: d.kill()
        shutil.rmtree(home, ignore_errors=True)
        say('all that was started is stopped')

def stop_jobs():
    "Empty the queue: a job's processes outlive slurmd."
    for a in (['--state=PENDING'], ['--signal=KILL', '--full'], []): sh('scancel', *a, '--user=root')
    try: until(lambda: not sh('squeue', '--noheader').strip(), 'the end of all jobs', 60)
    except TimeoutError as e: say(e)

def sh(*args, cwd=None, env=None, check=False):
    done = subprocess.run([str(a) for a in args], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert not check or done.returncode == 0, done.stdout
    return done.stdout

@pytest.fixture(scope='module')
def site(tmp_path_factory, slurm):
    "A copy of the repository to submit from, as a user's clone on a shared file system."
    folder = tmp_path_factory.mktemp('clone')
    for d in ('slurm', 'tools', 'nbs', 'grpo_nb'): shutil.copytree(ROOT/d, folder/d, ignore=shutil.ignore_patterns('__pycache__'))
    for page in ('10_training', '20_eval', '30_study'): without_examples(folder/f'nbs/{page}.ipynb')
    (folder/'outputs').mkdir()
    return Site(folder)

def without_examples(page):
    "Leave out the page's own small runs, which `make test` does: they take longer than all that is tested here."
    nb = json.loads(page.read_text(encoding='utf-8'))
    wanted = re.compile(r'^(#\|\s*(export|eval: false)|import |from |cfg = )', re.M)
    nb['cells'] = [c for c in nb['cells'] if c['cell_type'] != 'code' or c['metadata'].get('tags') or wanted.search(''.join(c['source']))]
    page.write_text(json.dumps(nb), encoding='utf-8')

class Site:
    "Jobs submitted from a folder, and what they leave there."
    def __init__(self, folder):
        self.folder, self.outputs = folder, folder/'outputs'
        self.env = {**os.environ, 'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}', 'PYTHONPATH': str(folder),
                    'OMP_NUM_THREADS': '1'}
        self.env.pop('GRPO_OUTPUTS', None)

    def submit(self, script, *options, given=(), **settings):
        "sbatch OPTIONS slurm/SCRIPT.sh GIVEN NAME VALUE ..."
        pairs = [a for k, v in settings.items() for a in (k, v)]
        return sh('sbatch', '--parsable', *options, f'slurm/{script}.sh', *given, *pairs, cwd=self.folder, env=self.env, check=True).strip()

    def manifest(self, run):
        try: return json.loads((self.outputs/run/'manifest.json').read_text())
        except FileNotFoundError: return {}

    def rows(self, run):
        kept = [json.loads(l) for l in (self.outputs/run/'metrics.jsonl').read_text().splitlines()]
        return [{k: v for k, v in r.items() if k not in TIMES} for r in kept]

    def saved(self, run): # Step of the newest checkpoint
        return max((int(p.parent.name[5:]) for p in (self.outputs/'checkpoints'/run).glob('step-*/manifest.json')), default=0)

    def contents(self, *runs): return {p: p.read_bytes() for r in runs for p in (self.outputs/r).glob('*.jsonl')}
    def log(self, name): return (self.outputs/f'{name}.log').read_text()

def job(number): # What Slurm says of a job, as a dictionary
    return dict(re.findall(r'(\w+)=(\S+)', sh('scontrol', 'show', 'job', '--oneliner', number)))

def ended(number, seconds=400):
    "Wait for the end of a job; its state and exit code."
    j = until(lambda: (j := job(number)).get('JobState') in OVER and j, f'the end of job {number}', seconds)
    return j['JobState'], j['ExitCode']

def minutes(clock): # Of 'HH:MM:SS'
    h, m, _ = clock.split(':')
    return 60*int(h) + int(m)

def reaches(site, run, step): # The step's row is there
    log = site.outputs/run/'metrics.jsonl'
    return lambda: log.exists() and log.read_text().count('\n') >= step

# One job, interrupted once

def interrupted(site, run, how, act, **settings):
    "Train `run`, let `act(job)` take it off the machine, see it requeued and finished; what happened."
    number = site.submit('train', run_name=run, **settings)
    say(f'job {number}, run {run}: {how}')
    act(number)
    def back(): # in the queue or running again, or over, which is not what we want
        j = job(number)
        return j.get('Restarts', '0') != '0' and j['JobState'] in ('PENDING', 'RUNNING') or j.get('JobState') in OVER
    until(back, f'job {number} back in the queue')
    m, saved = site.manifest(run), site.saved(run)
    sh('scontrol', 'update', f'JobId={number}', 'TimeLimit=60')  # so that the second segment meets no limit
    say(f'job {number}, run {run}: {m.get("state")} at step {m.get("step")}, checkpoint of step {saved}, in the queue again')
    state, code = ended(number)
    log = site.log(f'grpo-train-{number}')
    asked, stopped = (datetime.fromisoformat(found[1]) if (found := when.search(log)) else None for when in (ASKED, STOPPED))
    facts = dict(run=run, how=how, job=number, job_state=state, exit_code=code, restarts=int(job(number)['Restarts']), state_when_requeued=m.get('state'),
                 step_when_requeued=m.get('step'), steps_lost=m.get('step', 0) - saved, segments=len(site.manifest(run).get('starts', [])),
                 state=site.manifest(run).get('state'), seconds_from_signal_to_requeue=(stopped - asked).total_seconds() if asked and stopped else None)
    say(f'job {number}, run {run}: {state}, exit code {code}, {facts["segments"]} segments, {facts["steps_lost"]} steps lost')
    return facts

@pytest.fixture(scope='module')
def unbroken(site):
    "The same settings without Slurm and without interruption, in the background."
    pairs = [str(a) for kv in (LONG | dict(run_name='unbroken')).items() for a in kv]
    run = subprocess.Popen(['tools/record.sh', 'nbs/10_training.ipynb', 'unbroken', *pairs], cwd=site.folder, env=site.env, start_new_session=True,
                           stdout=open(site.outputs/'unbroken.log', 'w'), stderr=subprocess.STDOUT)
    yield lambda: run.wait(400) == 0 and site.rows('unbroken')
    if run.poll() is None: os.killpg(run.pid, signal.SIGKILL)

told = {}

@pytest.fixture(scope='module')
def stories(site, unbroken):
    "What happened to three runs: two beside each other, then one whose place a more urgent job takes."
    def limited(number):
        until(reaches(site, 'limited', 3), 'step 3 of run limited')
        sh('scontrol', 'update', f'JobId={number}', f'TimeLimit={minutes(job(number)["RunTime"]) + 3}', check=True)  # less than 300 s are left now
    def signalled(number):
        until(reaches(site, 'signalled', 12), 'step 12 of run signalled')
        sh('scancel', '--signal=USR1', '--batch', number, check=True)
    def displaced(number):
        until(reaches(site, 'displaced', 7), 'step 7 of run displaced')
        say('job', site.submit('eval', '--partition=urgent', '--gres=gpu:2', **EXAM), 'in partition urgent wants all GPUs')
    with ThreadPoolExecutor(2) as pool:
        limit = pool.submit(interrupted, site, 'limited', 'time limit', limited, **LONG)
        by_hand = pool.submit(interrupted, site, 'signalled', 'scancel --signal=USR1 --batch', signalled, **BRIEF)
        told['limited'], told['signalled'] = limit.result(), by_hand.result()
    told['displaced'] = interrupted(site, 'displaced', 'partition of higher priority', displaced, **BRIEF)
    return told

@pytest.mark.parametrize('run', ['limited', 'signalled', 'displaced'])
def test_interrupted_run_is_requeued_resumes_and_finishes(site, stories, unbroken, run):
    facts = stories[run]
    log = site.log(f'grpo-train-{facts["job"]}')
    assert (facts['job_state'], facts['exit_code'], facts['state']) == ('COMPLETED', '0:0', 'done'), log[-3000:]
    assert facts['restarts'] >= 1 and facts['segments'] >= 2 and facts['state_when_requeued'] == 'preempted' and facts['steps_lost'] == 0
    assert [f'segment {i}' in log for i in (1, 2)] == [True, True], 'the log is appended to'
    assert (site.outputs/'records'/f'{run}.ipynb').exists() and not (site.outputs/run/'STOP').exists()
    whole = unbroken()
    assert whole and len(whole) == LONG['iterations'], (site.outputs/'unbroken.log').read_text()[-3000:]
    facts['steps'] = (LONG if run == 'limited' else BRIEF)['iterations']
    facts['metrics_equal_unbroken'] = site.rows(run) == whole[:facts['steps']]
    assert facts['metrics_equal_unbroken']

def test_evaluation_that_took_the_place(site, stories):
    "eval.sh; the same again finds everything answered."
    until(lambda: site.manifest('exam').get('state') == 'done', 'the evaluation')
    rows = site.contents('exam')
    number = site.submit('eval', **EXAM)
    assert ended(number) == ('COMPLETED', '0:0'), site.log(f'grpo-eval-{number}')[-3000:]
    assert site.contents('exam') == rows and len(site.manifest('exam')['starts']) == 1

def test_evaluation_is_requeued_too(site, stories):
    "What was answered before the signal is kept."
    number = site.submit('eval', **EXAM | dict(run_name='cut', num_problems=400, max_new_tokens=48))
    until(lambda: (site.outputs/'cut/eval.jsonl').exists(), 'the first answers')
    sh('scancel', '--signal=USR1', '--batch', number, check=True)
    assert ended(number) == ('COMPLETED', '0:0'), site.log(f'grpo-eval-{number}')[-3000:]
    m,j = site.manifest('cut'),job(number)
    assert j['Restarts'] == '1' and (m['state'], len(m['starts'])) == ('done', 2)

def test_cancelled_run_is_saved_and_not_requeued_and_the_same_command_continues(site, stories):
    number = site.submit('train', run_name='cancelled', **BRIEF)
    until(reaches(site, 'cancelled', 3), 'step 3')
    sh('scancel', number, check=True)
    assert ended(number)[0] == 'CANCELLED' and job(number)['Restarts'] == '0'
    stopped = site.manifest('cancelled')
    assert stopped['state'] == 'preempted' and site.saved('cancelled') == stopped['step']
    say(f'job {number}: cancelled, saved at step {stopped["step"]}, not requeued')
    number = site.submit('train', run_name='cancelled', **BRIEF)
    until(reaches(site, 'cancelled', stopped['step'] + 3), 'three more steps')
    (site.outputs/'cancelled/STOP').touch()  # as a person does
    assert ended(number) == ('COMPLETED', '0:0') and job(number)['Restarts'] == '0'
    assert site.manifest('cancelled')['state'] == 'preempted' and 'stopped by hand' in site.log(f'grpo-train-{number}')
    say(f'job {number}: continued, stopped by hand at step {site.manifest("cancelled")["step"]}, not requeued')

def test_sweep_twice(site, stories):
    runs = ('zero-shot-s0', 'one-shot-s0', 'natural-s0')
    def sweep():
        number = site.submit('sweep', '--array=1-3%2', given=['slurm/sweeps/formats.csv'], **SHORT)
        assert {ended(f'{number}_{i}') for i in (1, 2, 3)} == {('COMPLETED', '0:0')}
        assert [f'Run {r} is done' in site.log(f'grpo-sweep-{number}_{i}') for i, r in enumerate(runs, 1)] == [True]*3
    sweep()
    assert [site.manifest(r)['settings']['prompt_format'] for r in runs] == ['zero-shot', 'one-shot', 'natural']
    before = site.contents(*runs)
    say('sweep done; the same again')
    sweep()
    assert site.contents(*runs) == before

def test_two_nodes_train_one_run(site):
    "A process on each of two nodes, brought together by srun and torchrun; interrupted once; as one process does it."
    work = SMALL | dict(iterations=8, batch_size=2, num_generations=4, max_new_tokens=16, save_every=2, optimizer='adamw')
    alone = site.submit('train', run_name='alone', **work)
    number = site.submit('train', '--partition=twins', '--nodes=2', '--gres=none', '--mem=4G', run_name='pair', **work)
    until(reaches(site, 'pair', 2), 'step 2 of run pair')
    sh('scancel', '--signal=TERM', '--full', number, check=True)  # to every process, as when the job has to go
    for job_id in (alone, number): assert ended(job_id) == ('COMPLETED', '0:0'), site.log(f'grpo-train-{job_id}')[-3000:]
    m = site.manifest('pair')
    assert (m['state'], m['processes'], m['nodes'], job(number)['Restarts']) == ('done', 2, 2, '1')
    rewards = lambda run: [r['reward'] for r in site.rows(run)]
    assert len(rewards('pair')) == 8 and rewards('pair') == rewards('alone')
    say(f'job {number}: two nodes, requeued once, {len(m["starts"])} segments, as one process alone')

def test_a_lost_process_ends_the_job(site):
    number = site.submit('train', '--partition=twins', '--nodes=2', '--gres=none', '--mem=4G', run_name='lost', **LONG | dict(iterations=1000))
    until(reaches(site, 'lost', 2), 'step 2 of run lost')
    at_work = lambda: [p for p in psutil.process_iter(['cmdline']) if {'grpo_nb.training', 'lost'} <= {*(p.info['cmdline'] or ())}]  # A zombie has no words
    next(p for p in at_work() if p.environ().get('RANK') == '1').kill()
    assert ended(number) == ('FAILED', '3:0'), site.log(f'grpo-train-{number}')[-3000:]
    m = site.manifest('lost')
    assert m['state'] == 'failed' and 'process 1 was killed by SIGKILL' in m['error'], m
    until(lambda: not at_work(), 'the end of its processes', 30)
    say(f'job {number}: {m["error"]}')

def test_bad_settings_end_with_exit_code_2(site, stories):
    bad = site.submit('train', run_name='bad', model_name='small', learning_rat='1e-5')
    row = site.submit('sweep', '--array=4', given=['slurm/sweeps/formats.csv'])
    assert ended(bad) == ended(f'{row}_4') == ('FAILED', '2:0')
    assert 'refused before it began' in site.log(f'grpo-train-{bad}') and not (site.outputs/'bad').exists()
    assert site.log(f'grpo-sweep-{row}_4') == 'slurm/sweeps/formats.csv has rows 1 to 3, got array index 4\n'

def test_a_study_queues_its_runs_and_a_signal_costs_nothing(site, unbroken):
    "30_study through submitit: two runs at a time; one gets the signal that comes before a time limit."
    pytest.importorskip('submitit')
    also = ' '.join(f'{k}={v}' for k, v in LONG.items() if k not in ('iterations', 'model_name'))
    asked = dict(run_name='grid', rows='zero-shot-200', model_name='small', seeds='0 1', steps=.15, also=also, where='slurm', jobs=2, show_every=1,
                 slurm='timeout_min=60 cpus_per_task=1 mem_gb=4 gpus_per_node=0')
    pairs = [str(a) for k, v in asked.items() for a in ('-p', k, v)]
    study = subprocess.Popen([sys.executable, '-m', 'papermill', 'nbs/30_study.ipynb', 'outputs/grid.ipynb', '--no-progress-bar', *pairs], cwd=site.folder,
                             env=site.env, stdout=open(site.outputs/'grid.log', 'w'), stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until(lambda: reaches(site, 'grid/zero-shot-200-s0', 8)() or study.poll(), 'step 8 of the first run')
        assert study.poll() is None, (site.outputs/'grid.log').read_text()[-3000:]
        number = (site.outputs/'grid/slurm/zero-shot-200-s0.job').read_text()
        sh('scancel', '--signal=USR2', number, check=True)
        say(f'job {number}: scancel --signal=USR2')
        assert study.wait(400) == 0, (site.outputs/'grid.log').read_text()[-3000:]
    finally:
        if study.poll() is None: os.killpg(study.pid, signal.SIGKILL)
    made = {r: site.manifest(f'grid/{r}') for r in ('zero-shot-200-s0', 'zero-shot-200-s1')}
    assert [(m['state'], len(m['starts'])) for m in made.values()] == [('done', 2), ('done', 1)] and job(number)['Restarts'] == '1'
    whole = unbroken()
    assert whole and [r['reward'] for r in site.rows('grid/zero-shot-200-s0')] == [r['reward'] for r in whole[:30]]
    say(f'job {number}: requeued by submitit, done, as the run that nobody disturbed')

def test_record(site, stories):
    "Not a test: the record, where one is asked for."
    if not (path := os.environ.get('RECORD')): pytest.skip('no RECORD asked for')
    made = dict(script='on_slurm', date=str(date.today()), slurm=sh('sinfo', '--version').split()[-1], cores=os.cpu_count(), settings=LONG,
                seconds=round(time.time() - began), runs=[*told.values()])
    Path(path).write_text(json.dumps(made, indent=1) + '\n')
    say('record:', path)
