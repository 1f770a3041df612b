"""What kill_loop.py and faults.py share: a small real training run in a child process, which may be killed."""
import multiprocessing, os, sys, time
from common import ROOT, write
from grpo_nb.runs import Run, differences
from grpo_nb.training import GRPOConfig, train

FORK = multiprocessing.get_context('fork') # The imports lie behind it: a child trains at once
TINY = dict(model_name='small', device='cpu', batch_size=2, num_generations=4, max_new_tokens=24, num_threads=1, val_batch_size=4, report_problems=4, log_every=2, save_every=3)


def config(name, **settings): return GRPOConfig.for_model(**{**TINY, **settings}, run_name=name)


def _child(work, log):
    sys.stdout = sys.stderr = open(log, 'a', buffering=1)
    for fd in (1, 2): os.dup2(sys.stdout.fileno(), fd)
    try: work()
    except BaseException as e: # As the last line of a traceback has it
        print(f'{type(e).__name__}: {e}', flush=True)
        os._exit(1)
    os._exit(0)


def start(work, log):
    "Run a function in a process of its own, its words in a file."
    p = FORK.Process(target=_child, args=(work, log))
    p.start()
    return p


def end(p, timeout=300):
    "Its exit code; negative for a signal."
    p.join(timeout)
    if p.is_alive(): p.kill(); p.join(); raise TimeoutError(f'a training run took more than {timeout} s')
    return p.exitcode


def training(outputs, name, before=lambda: None, **settings):
    "A function that begins a run, or continues it if it is there."
    resume = Run(name, outputs, must_exist=False).exists
    def work():
        before()
        train(config(name, resume=resume, **settings), outputs=outputs)
    return work


def unbroken(outputs, name='unbroken', **settings):
    "The run that nothing happens to, and its seconds."
    t0 = time.perf_counter()
    if end(start(training(outputs, name, **settings), outputs/f'{name}.log')): raise RuntimeError((outputs/f'{name}.log').read_text()[-2000:])
    return Run(name, outputs),time.perf_counter() - t0


def wait_for(seen, p, timeout=120.):
    "Until `seen()` is true or the process has ended; says whether it was seen."
    t0 = time.monotonic()
    while time.monotonic() - t0 < timeout and p.is_alive():
        if seen(): return True
        time.sleep(.002)
    return bool(seen())


def logged(run):
    "Steps in the log, read without parsing it."
    f = run.dir/'metrics.jsonl'
    return f.read_bytes().count(b'\n') if f.exists() else 0


def saved(run):
    "The step of the newest checkpoint, complete or not."
    return max((int(p.name[5:]) for p in run.checkpoints_dir.glob('step-*')), default=0)

