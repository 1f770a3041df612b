"Runs that are killed, stopped, starved and lied to: the benchmarks of survival, small."
import json, os, subprocess, sys, time
import pytest
from common import ROOT, sh
from test_experiments import TINY, papermill

def run(script, *args, out):
    done = sh(sys.executable, f'benchmarks/{script}.py', *args, '--out', out, timeout=600, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout
    return json.loads(next(out.glob('*.json')).read_text())

def test_kills_are_survived(tmp_path):
    record = run('kill_loop', '--kills', 4, '--iterations', 9, out=tmp_path)
    assert record['total']['resumed'] == 4 and not record['total']['unusable'] and not record['total']['different']

FAULTS = {'killed during a save':('killed', 'equal bit for bit'), 'loss not finite, told to skip':('done', 'differs'), 'reward not finite':('failed', 'equal bit for bit'),
          'loss not finite while':('failed', 'equal bit for bit'), 'full during':('failed', 'equal bit for bit'), 'figure':('done', 'equal bit for bit'),
          'flipped':('done', 'equal bit for bit'), 'second':('done', 'equal bit for bit'), 'full at a step':('done', 'differs')}

def test_faults(tmp_path):
    rows = run('faults', '--only', *FAULTS, out=tmp_path)['rows']
    for word,(state,after) in FAULTS.items():
        row, = [r for r in rows if word in r['fault']]
        assert 'not tried' in row['said'] or (row['state'], row['after'].startswith(after), 'NOTHING' in row['said']) == (state, True, False), row

def test_saving_is_timed(tmp_path):
    record = run('saving', '--iterations', 6, '--save_every', 2, out=tmp_path)
    assert [s['step'] for s in record['saves']] == [2, 4, 6] and record['checkpoint_bytes'] > 1e6

def test_papermill_stops_on_request_and_goes_on(tmp_path):
    settings = TINY | dict(run_name='halted', iterations=400, log_every=50)
    asked = [str(a) for k,v in settings.items() for a in ('-p', k, v)]
    p = subprocess.Popen([sys.executable, '-m', 'papermill', ROOT/'nbs/10_training.ipynb', tmp_path/'out.ipynb', '--no-progress-bar', *asked],
                         env={**os.environ, 'GRPO_OUTPUTS':str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log,manifest = tmp_path/'halted/metrics.jsonl',lambda: json.loads((tmp_path/'halted/manifest.json').read_text())
    t0 = time.monotonic()
    while not (log.exists() and log.stat().st_size) and p.poll() is None and time.monotonic() - t0 < 120: time.sleep(.05)
    (tmp_path/'halted/STOP').touch()
    said,_ = p.communicate(timeout=120)
    steps = len(log.read_text().splitlines())
    assert (p.returncode, manifest()['state'], manifest()['saved']) == (0, 'preempted', steps) and steps < 400, said[-3000:]
    done = papermill('10_training', tmp_path/'out.ipynb', tmp_path, **settings | dict(resume=True, iterations=steps + 2))
    assert done.returncode == 0 and manifest()['state'] == 'done', done.stdout[-3000:]
    assert [json.loads(l)['step'] for l in log.read_text().splitlines()] == list(range(1, steps + 3)) and len(manifest()['starts']) == 2

BUTTON = '''
import time
from grpo_nb.training import stop_button
class Run:
    asked = False
    def stop(self): self.asked = True
run = Run()
b = stop_button(run)
print(b.comm.comm_id, flush=True)
t = time.time()
while not run.asked and time.time() - t < 60: time.sleep(.05)
print('asked' if run.asked else 'deaf', flush=True)'''

def test_stop_button_works_while_its_cell_runs():
    "As JupyterLab does it: a click is a message to a subshell of the kernel."
    from jupyter_client.manager import start_new_kernel
    manager, client = start_new_kernel(kernel_name='python3')
    try:
        client.kernel_info()
        if 'kernel subshells' not in client.get_shell_msg(timeout=60)['content'].get('supported_features', []): pytest.skip('this ipykernel has no subshells')
        client.control_channel.send(client.session.msg('create_subshell_request', {}))
        subshell = client.get_control_msg(timeout=60)['content']['subshell_id']
        client.execute(BUTTON)
        said = []
        while len(said) < 2:
            message = client.get_iopub_msg(timeout=120)
            assert message['msg_type'] != 'error', message['content']
            if message['msg_type'] != 'stream' or message['content']['name'] != 'stdout': continue
            said += message['content']['text'].split()
            if len(said) == 1:
                click = client.session.msg('comm_msg', dict(comm_id=said[0], data=dict(method='custom', content=dict(event='click'))))
                click['header']['subshell_id'] = subshell
                client.shell_channel.send(click)
        assert said[1] == 'asked'
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)

def test_a_kill_between_checkpoint_and_policy_is_made_up_for(tmp_path):
    from dataclasses import replace
    from grpo_nb.runs import Run, differences
    from grpo_nb.training import GRPOConfig, train
    cfg = GRPOConfig.for_model(**TINY | dict(device='cpu', num_threads=1))
    whole,run = (train(replace(cfg, run_name=n), outputs=tmp_path) for n in ('whole', 'late'))
    (run.policy_dir/'model.safetensors').unlink()
    run.heartbeat(0, state='running', saved=0)
    train(replace(cfg, run_name='late', resume=True), outputs=tmp_path)
    assert not differences(whole, Run('late', tmp_path))
