"""Inject faults into small real training runs; write down what the user sees, what is lost, and how the run goes on.

    python benchmarks/faults.py                  # all of them, in a few minutes
    python benchmarks/faults.py --only disk lock # those whose name holds one of the words

A full and a read-only disk are real ones, small file systems in memory, and need root on Linux. A full GPU is simulated, by
the error that torch raises. After each fault its cause is taken away, the run is continued, and compared with one that
nothing happened to.
"""
import argparse, json, os, shutil, signal, subprocess, sys, tempfile, time
from dataclasses import replace
from pathlib import Path
import psutil
from under_fire import ROOT, TINY, Run, differences, end, logged, saved, start, training, unbroken, wait_for, write

SIZE,FAULTS = dict(iterations=10),{}


def fault(name, injected):
    "Register a function that does it; it returns what the user is told, and whether the run went on by itself."
    def add(f): FAULTS[name] = (injected, f); return f
    return add


# What the faults are made of

class Case:
    "One run in a folder of its own."
    def __init__(self, outputs, **settings):
        self.outputs,self.settings,self.log = outputs,{**SIZE, **settings},outputs/'run.log'
        self.run,self.lost = Run('run', outputs, must_exist=False),None
    def start(self, before=lambda: None): return start(training(self.outputs, 'run', before, **self.settings), self.log)
    def words(self): return [l.replace(f'{self.outputs}/', '') for l in self.log.read_text().splitlines() if l.strip()]
    def said(self, word): return next((l for l in self.words() if word in l), f'NOTHING with {word!r}: {self.words()[-1]}')
    def shoot(self, how, after=7, seen=None):
        "Send a signal once so many steps are logged."
        p = self.start()
        wait_for(seen or (lambda: logged(self.run) >= after), p)
        os.kill(p.pid, how)
        return end(p)
    def fail(self, before):
        "Run with something in its way, and give its last words."
        end(self.start(before))
        return self.words()[-1]


def at_step(k, change):
    "For the child: do something before a step is learned from."
    import grpo_nb.training as T
    collect = T.collect
    def patched(cfg, model, tok, step, *rest):
        batch = collect(cfg, model, tok, step, *rest)
        return (change(batch) or batch) if step == k else batch
    T.collect = patched


def spoil(batch):
    batch.advantages[0] = float('nan')


def spoil_reward(batch): batch.grades[0] = replace(batch.grades[0], reward=float('nan'))


# Processes that end

@fault('process killed', 'SIGKILL after step 7')
def _(c): return f'exit by signal {-c.shoot(signal.SIGKILL)}'

@fault('killed during a save', 'SIGKILL while the checkpoint of step 6 is being written')
def _(c):
    return f"exit by signal {-c.shoot(signal.SIGKILL, seen=lambda: logged(c.run) >= 6 and list(c.run.checkpoints_dir.glob('.unfinished-*')))}"

@fault('process told to end', 'SIGTERM after step 7')
def _(c): return f'exit by signal {-c.shoot(signal.SIGTERM)}'

def papermill(c, victim):
    "Run the training page and kill papermill or its kernel; papermill's exit code and last line."
    asked = [str(a) for k,v in {**TINY, **c.settings, 'run_name':'run'}.items() for a in ('-p', k, v)]
    done = c.outputs/'papermill.log'
    with open(done, 'w') as f:
        p = subprocess.Popen([sys.executable, '-m', 'papermill', ROOT/'nbs'/'10_training.ipynb', c.outputs/'out.ipynb', '--no-progress-bar', *asked],
                             stdout=f, stderr=f, env={**os.environ, 'GRPO_OUTPUTS':str(c.outputs), 'PYTHONPATH':str(ROOT)})
        t0 = time.monotonic()
        while logged(c.run) < 4 and p.poll() is None and time.monotonic() - t0 < 120: time.sleep(.01)
        kernel = next(k for k in psutil.Process(p.pid).children(recursive=True) if 'ipykernel' in ' '.join(k.cmdline()))
        (p if victim == 'papermill' else kernel).kill()
        code = p.wait()
        kernel.wait(60)
    return code,[l for l in done.read_text().splitlines() if l.strip()][-1]

@fault('papermill killed', 'SIGKILL to papermill; its kernel notices and ends')
def _(c): return f"exit by signal {-papermill(c, 'papermill')[0]}"

@fault('kernel killed', 'SIGKILL to the kernel that papermill started')
def _(c):
    code,line = papermill(c, 'kernel')
    return f'exit code {code}: {line}'

@fault('asked to stop', 'touch outputs/run/STOP after step 4')
def _(c):
    p = c.start()
    wait_for(lambda: logged(c.run) >= 4, p)
    c.run.stop()
    return f"exit code {end(p)}: {c.said('asked to stop')}"


# Numbers and memory

@fault('loss not finite', 'an advantage of step 5 is NaN')
def _(c): return c.fail(lambda: at_step(5, spoil))

@fault('loss not finite, told to skip', 'the same with on_nonfinite skip')
def _(c):
    c.settings['on_nonfinite'] = 'skip'
    end(c.start(lambda: at_step(5, spoil)))
    return c.said('left out')

def slow_save(k):
    "For the child: the checkpoint of a step takes a second longer."
    import grpo_nb.states as S
    write_folder = S.write_folder
    def patched(final, *args):
        if final.name.endswith(f'{k:08d}'): time.sleep(1)
        return write_folder(final, *args)
    S.write_folder = patched

@fault('loss not finite while a save is under way', 'an advantage of step 7 is NaN, the checkpoint of step 6 takes a second')
def _(c): return c.fail(lambda: (slow_save(6), at_step(7, spoil)))

@fault('reward not finite', 'a reward of step 5 is NaN')
def _(c): return c.fail(lambda: at_step(5, spoil_reward))

def full_card(rows):
    "For the child: an embedding that raises torch's error when more than so many completions come at once in the update."
    import grpo_nb.training as T
    import torch
    load = T.load_model
    def patched(*args):
        model = load(*args)
        def full(module, ids):
            if model.training and ids[0].numel() > 21 + rows*TINY['max_new_tokens']: raise torch.OutOfMemoryError('CUDA out of memory.')
        model.get_input_embeddings().register_forward_pre_hook(full)
        return model
    T.load_model = patched

@fault('GPU full at a step', 'simulated: the error of torch whenever more than 2 completions go through at once')
def _(c):
    end(c.start(lambda: full_card(2)))
    return c.said('ran out of memory')

@fault('GPU full at the longest step', 'simulated likewise, with rehearse True, before the first step')
def _(c):
    c.settings['rehearse'] = True
    end(c.start(lambda: full_card(2)))
    return f"{c.said('does not fit')}; {c.said('fits in')}".split(': tried')[0]


# Disks

def small_disk(c, mb=64):
    "Put the run on a small file system in memory."
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={mb}m', 'tmpfs', c.outputs], check=True, capture_output=True)

def fill(c, left):
    "For the child, when the checkpoint of step 3 is complete: leave so many bytes free."
    while not (c.run.policy_dir/'model.safetensors').exists(): time.sleep(.01)
    time.sleep(.3)
    free = shutil.disk_usage(c.outputs).free
    with open(c.outputs/'ballast', 'wb', buffering=0) as f:
        try: f.write(bytes(max(0, free - left)))
        except OSError: pass

@fault('disk full during a save', 'a file system of 64 MB, 2 MB of it left after step 5')
def _(c):
    small_disk(c)
    said = c.fail(lambda: at_step(5, lambda b: fill(c, 2<<20)))
    (c.outputs/'ballast').unlink()
    return said

@fault('disk full at a log', 'the same, nothing left after step 4')
def _(c):
    small_disk(c)
    said = c.fail(lambda: at_step(4, lambda b: fill(c, 0)))
    (c.outputs/'ballast').unlink()
    return said

@fault('disk read-only', 'remounted read-only after step 5')
def _(c):
    small_disk(c)
    elsewhere = Path(tempfile.mkdtemp())
    c.log = elsewhere/'run.log' # What it says must be kept somewhere
    remount = lambda how: subprocess.run(['mount', '-o', f'remount,{how}', c.outputs], check=True)
    said = c.fail(lambda: at_step(5, lambda b: remount('ro') and None))
    remount('rw')
    return said

@fault('figure cannot be written', 'a folder lies where the picture should be')
def _(c):
    (c.outputs/'run_training_curve.png').mkdir()
    end(c.start())
    return c.said('figures')


# Checkpoints and logs

def damaged(c, damage):
    "Kill a run after step 7, damage its newest checkpoint, and continue it."
    c.shoot(signal.SIGKILL)
    before,newest = sorted(c.run.checkpoints_dir.glob('step-*'))[-2:]
    c.lost = logged(c.run) - int(before.name[5:])
    damage(newest)
    end(c.start())
    return c.said('Skipping')

def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data)//2] ^= 1
    path.write_bytes(data)

@fault('checkpoint with a flipped bit', 'one bit of the weights of step 6')
def _(c): return damaged(c, lambda p: flip(p/'weights.safetensors'))

@fault('checkpoint cut short', 'the optimizer state of step 6 loses its last 100 bytes')
def _(c): return damaged(c, lambda p: os.truncate(p/'optimizer.safetensors', (p/'optimizer.safetensors').stat().st_size - 100))

@fault('checkpoint incomplete', 'state.json of step 6 is gone')
def _(c): return damaged(c, lambda p: (p/'state.json').unlink())

@fault('log has lost rows', 'metrics.jsonl is cut to four rows after a kill')
def _(c): return damaged(c, lambda p: (c.run.dir/'metrics.jsonl').write_bytes(b''.join((c.run.dir/'metrics.jsonl').read_bytes().splitlines(True)[:4])))

@fault('every checkpoint damaged', 'all manifests are gone')
def _(c):
    c.shoot(signal.SIGKILL)
    hidden = [(f, f.rename(f.with_suffix('.hidden'))) for f in c.run.checkpoints_dir.glob('step-*/manifest.json')]
    end(c.start())
    said = c.words()[-1]
    for f,h in hidden: h.rename(f)
    return said


# Two at once

@fault('second process on one run', 'the same command while the first one trains')
def _(c):
    p = c.start()
    wait_for(lambda: logged(c.run) >= 2, p)
    second = c.outputs/'second.log'
    end(start(training(c.outputs, 'run', **c.settings), second))
    end(p)
    return second.read_text().strip().splitlines()[-1]

@fault('lock left by a dead process elsewhere', 'a lock of another host, not touched for an hour')
def _(c):
    c.shoot(signal.SIGKILL)
    c.lost = logged(c.run) - saved(c.run)
    c.run.lock.path.write_text(json.dumps(dict(pid=4711, place='elsewhere', host='node8', job='99')))
    os.utime(c.run.lock.path, (time.time() - 3600,)*2)
    end(c.start())
    return c.said('taken over')


def apart(a, b):
    "The largest difference between two weights of the final policies."
    x,y = (r.latest_checkpoint().tensors('weights') for r in (a, b))
    return max(float((x[n] - y[n]).abs().max()) for n in x)


def try_out(name, folder, whole):
    "One row of the table."
    injected,f = FAULTS[name]
    outputs = folder/name.replace(' ', '-').replace(',', '')
    outputs.mkdir()
    c = Case(outputs)
    try: said = f(c)
    except (subprocess.CalledProcessError, FileNotFoundError) as e:
        if 'mount' not in str(e): raise
        return dict(fault=name, injected=injected, said='not tried: a file system of its own needs root on Linux', state='', steps_lost=None, after='')
    state,done,at = c.run.state,logged(c.run),saved(c.run)
    lost = c.lost if c.lost is not None else 0 if state in ('done', 'preempted') else max(0, done - at)
    if state != 'done' and end(c.start()): after = f'does not go on: {c.words()[-1]}'
    else:
        wrong = differences(whole, c.run)
        after = 'equal bit for bit' if not wrong else f'differs: weights by up to {apart(whole, c.run):.0e}'
    if os.path.ismount(outputs): subprocess.run(['umount', outputs], check=True)
    return dict(fault=name, injected=injected, said=said.replace(str(outputs), 'outputs'), state=state, steps_lost=lost, after=after)


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--only', nargs='+', default=[], metavar='WORD', help='faults whose name holds one of these')
    p.add_argument('--out', type=Path, default=ROOT/'benchmarks'/'results', help='folder of the JSON file')
    a = p.parse_args(argv)
    names = [n for n in FAULTS if not a.only or any(w in n for w in a.only)]
    if not names: p.error(f"--only should be words of these: {', '.join(FAULTS)}")
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        (folder/'whole').mkdir()
        whole,_ = unbroken(folder/'whole', **SIZE)
        for n in names:
            rows.append(try_out(n, folder, whole))
            r = rows[-1]
            print(f"{n}: {r['said']}\n    {r['state']}, {r['steps_lost']} steps lost, {r['after']}", flush=True)
    print('written:', write(a.out/'faults.json', 'faults', {**TINY, **SIZE}, rows=rows))


if __name__ == '__main__': main()
