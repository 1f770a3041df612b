"What the tests share: where things are, how a page is read, how a command is run."
import atexit, json, os, re, subprocess, sys, tempfile, time
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(p for p in (ROOT/'nbs').glob('*.ipynb') if not p.name.startswith(('.', '_')))
NUMBERED = [p for p in PAGES if re.match(r'\d\d_', p.name)]
EXPERIMENTS = {p.stem:p for p in PAGES if p.stem in ('10_training', '11_memory', '12_small_model', '13_planning', '20_eval', '21_inference', '22_report', '23_sharing', '29_corrections', '30_study', '31_writeup')}
names = lambda pages: [p.stem for p in pages]

def cells(page, kind=None):
    "Sources of a page's cells."
    found = json.loads(page.read_text(encoding='utf-8'))['cells']
    return [''.join(c['source']) for c in found if kind in (None, c['cell_type'])]

def sh(*args, timeout=300, cwd=ROOT, **env):
    "Run a command of this interpreter's environment; its text output comes with it."
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    return subprocess.run([str(a) for a in args], cwd=cwd, env={**os.environ, 'PATH':path, **env}, timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

@lru_cache
def warm_kernels():
    "Environment in which Jupyter's kernels start from `warm.py`, each in a fraction of the time."
    folder = Path((kept := tempfile.TemporaryDirectory()).name)
    atexit.register(kept.cleanup)
    argv = [sys.executable, str(ROOT/'tests/warm.py')]
    (spec := folder/'kernels/python3/kernel.json').parent.mkdir(parents=True)
    spec.write_text(json.dumps(dict(argv=[*argv, 'kernel', str(folder/'warm'), '-f', '{connection_file}'], display_name='Python 3', language='python')))
    server = subprocess.Popen([*argv, 'serve', str(folder/'warm')], env={**os.environ, 'OMP_NUM_THREADS':'1'})
    atexit.register(server.terminate)
    while not (folder/'warm').exists() and server.poll() is None: time.sleep(.05)
    return dict(JUPYTER_PATH=os.pathsep.join(filter(None, [str(folder), os.environ.get('JUPYTER_PATH')])))
